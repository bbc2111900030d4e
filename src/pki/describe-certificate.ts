/**
 * Reads certificates for people: what they say, and what `ztna` would take their holder for.
 *
 * The judgement is the one peers make (`policy/identity.ts`), so `ztna pki show` explains a refusal
 * without a second opinion. The trust domain is taken as trusted: whose it is only a peer knows.
 */
import { createHash } from "node:crypto";
import { OperatorError } from "../base/error.ts";
import { judgeLeaf, type LeafInfo, PEER_ROLES, type ProvenPeer } from "../policy/identity.ts";
import { type IdentityKeys, identityConfigOf, ownIdentity } from "../policy/identity-config.ts";
import { type X509Certificate, x509 } from "./x509.ts";

export interface CertificateDescription {
  readonly subject: string;
  readonly issuer: string;
  readonly serial: string;
  readonly key: string;
  readonly spkiSha256: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly authority: boolean;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly usages: readonly string[];
  readonly verdict: Verdict;
}

export type NameMappings = Pick<IdentityKeys, "spiffe" | "identities">;

export type Verdict =
  | { readonly as: "authority" }
  | { readonly as: "nobody"; readonly reason: string; readonly detail: string }
  | {
      readonly as: "agent" | "connector" | "relay" | "admin";
      readonly identity: string;
      readonly use: readonly string[] | "all";
      readonly provide: readonly string[] | "all";
    };

/**
 * @param mapped names that a configuration gives to certificates which carry none of ours.
 * @throws OperatorError when the text holds no certificate. Never quotes the text.
 */
export function describeCertificates(
  pem: string,
  now: Date,
  mapped: NameMappings = { spiffe: {}, identities: {} },
): CertificateDescription[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  if (blocks === null) {
    const isKey = /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem);
    throw new OperatorError(
      "TLS_MATERIAL_INVALID",
      isKey ? "the file holds a private key and no certificate" : "the file holds no certificate",
      { hint: "Pass a PEM file with a certificate; keys are never shown." },
    );
  }
  return blocks.map((block) => describe(parse(block), now, mapped));
}

function parse(block: string): X509Certificate {
  try {
    return new x509.X509Certificate(block);
  } catch (cause) {
    throw new OperatorError("TLS_MATERIAL_INVALID", "the certificate is malformed", { cause });
  }
}

function describe(
  certificate: X509Certificate,
  now: Date,
  mapped: NameMappings,
): CertificateDescription {
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const usages = certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages ?? [];
  const valuesOf = (type: string) => names.filter((it) => it.type === type).map((it) => it.value);
  const description = {
    subject: certificate.subject,
    issuer: certificate.issuer,
    serial: certificate.serialNumber,
    key: keyOf(certificate),
    spkiSha256: createHash("sha256")
      .update(new Uint8Array(certificate.publicKey.rawData))
      .digest("hex"),
    notBefore: certificate.notBefore.toISOString(),
    notAfter: certificate.notAfter.toISOString(),
    authority: certificate.getExtension(x509.BasicConstraintsExtension)?.ca === true,
    uris: valuesOf("url"),
    dnsNames: valuesOf("dns"),
    ipAddresses: valuesOf("ip"),
    usages: usages.map((it) => USAGE_NAMES.get(String(it)) ?? String(it)),
  };
  return { ...description, verdict: judge(description, certificate, now, mapped) };
}

function judge(
  description: Omit<CertificateDescription, "verdict">,
  { notBefore, notAfter }: X509Certificate,
  now: Date,
  mapped: NameMappings,
): Verdict {
  if (now >= notAfter) {
    return { as: "nobody", reason: "expired", detail: `expired at ${description.notAfter}` };
  }
  if (now < notBefore) {
    return { as: "nobody", reason: "not-yet-valid", detail: `begins at ${description.notBefore}` };
  }
  if (description.authority) return { as: "authority" };
  if (!isAcceptedKey(description.key)) {
    return {
      as: "nobody",
      reason: "key-not-accepted",
      detail: `key is ${description.key}, accepted are P-256, P-384, Ed25519 and RSA from 2048`,
    };
  }
  const leaf = {
    ...description,
    clientAuth: description.usages.includes("clientAuth"),
    serverAuth: description.usages.includes("serverAuth"),
    notAfter: Math.floor(notAfter.getTime() / 1000),
  };
  return judgeName(leaf, { ...mapped, trustDomains: [] });
}

function judgeName(leaf: LeafInfo, keys: IdentityKeys): Verdict {
  const identity = ownIdentity(leaf, keys);
  if (identity === undefined) {
    const [uri, second] = leaf.uris;
    if (second !== undefined) return nobody("several-uri-sans", "one URI SAN names a peer");
    return uri === undefined
      ? nobody("no-uri-san", "no URI SAN names the peer")
      : nobody("uri-malformed", `${uri} is not ztna://<trust-domain>/<role>/<name>`);
  }

  const peer = identity.role === "relay" ? "was-dialled" : "dialled-us";
  const expectation = { peer, roles: PEER_ROLES } as const;
  const judged = judgeLeaf(leaf, expectation, identityConfigOf(identity, keys));
  return judged.ok ? verdictOf(judged.value) : { as: "nobody", ...judged.error };
}

function nobody(reason: string, detail: string): Verdict {
  return { as: "nobody", reason, detail };
}

function verdictOf({ identity, grants }: ProvenPeer): Verdict {
  const list = (services: typeof grants.use) => (services === "all" ? services : [...services]);
  return {
    as: identity.role,
    identity: identity.uri,
    use: identity.role === "agent" ? list(grants.use) : [],
    provide: identity.role === "connector" ? list(grants.provide) : [],
  };
}

function keyOf({ publicKey }: X509Certificate): string {
  const { name, namedCurve, modulusLength } = publicKey.algorithm as Algorithm & {
    namedCurve?: string;
    modulusLength?: number;
  };
  if (namedCurve !== undefined) return `${name} ${namedCurve}`;
  return modulusLength === undefined ? name : `RSA ${modulusLength}`;
}

/** `docs/protocol.md` §4: ECDSA P-256 and P-384, Ed25519, RSA from 2048 bits. */
const ACCEPTED_KEYS = ["ECDSA P-256", "ECDSA P-384", "Ed25519"];
const RSA_BITS_MIN = 2048;

function isAcceptedKey(key: string): boolean {
  const bits = /^RSA (\d+)$/.exec(key)?.[1];
  return bits === undefined ? ACCEPTED_KEYS.includes(key) : Number(bits) >= RSA_BITS_MIN;
}

const USAGE_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries(x509.ExtendedKeyUsage).map(([name, oid]) => [String(oid), name]),
);
