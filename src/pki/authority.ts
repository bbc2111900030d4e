/**
 * A small certificate authority on WebCrypto: one P-256 root that signs leaves itself.
 *
 * For people without a CA. Nothing in `ztna` depends on it: any X.509 CA that writes the names of
 * `certificate-profile.ts` serves as well. Private keys leave this module as PKCS #8 PEM for a file
 * and nowhere else.
 */
import { OperatorError } from "../base/error.ts";
import {
  AUTHORITY_DAYS,
  type CertificateProfile,
  requireDays,
  requireTrustDomain,
} from "./certificate-profile.ts";
import { type X509Certificate, x509 } from "./x509.ts";

export interface PemPair {
  readonly certificatePem: string;
  readonly keyPem: string;
}

export interface Authority {
  readonly trustDomain: string;
  readonly certificate: X509Certificate;
  readonly key: CryptoKey;
}

/** Creates a root whose subject carries the trust domain, so that issuing need not be told it. */
export async function createAuthority(
  trustDomain: string,
  now: Date,
  days: number = AUTHORITY_DAYS,
): Promise<PemPair> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    keys,
    name: [{ CN: ["ztna authority"] }, { O: [requireTrustDomain(trustDomain)] }],
    serialNumber: newSerial(),
    notBefore: notBefore(now),
    notAfter: daysAfter(now, requireDays(days)),
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: pem(certificate), keyPem: await privateKeyPem(keys.privateKey) };
}

/** @throws OperatorError when the two do not form a P-256 authority that is in force. */
export async function readAuthority(pair: PemPair, now: Date): Promise<Authority> {
  const certificate = readRoot(pair.certificatePem);
  const key = await readPrivateKey(pair.keyPem);
  const own = toHex(await publicKeyOf(key));
  if (own !== toHex(certificate.publicKey.rawData)) {
    throw new OperatorError("KEY_MISMATCH", "the authority's key is of another certificate", {
      hint: "Point --ca-dir to the directory that `ztna pki init` wrote.",
    });
  }
  if (now >= certificate.notAfter) {
    throw new OperatorError(
      "CERTIFICATE_EXPIRED",
      `the authority expired at ${certificate.notAfter.toISOString()}`,
      { hint: "Make a fresh one with `ztna pki init` and issue all certificates again." },
    );
  }

  const [trustDomain = ""] = certificate.subjectName.getField("O");
  return { trustDomain, certificate, key };
}

/** Signs a leaf. It never outlives the authority: a leaf that does would fail at its last days. */
export async function issue(
  authority: Authority,
  profile: CertificateProfile,
  now: Date,
): Promise<PemPair> {
  const keys = await newKeys();
  const wanted = daysAfter(now, profile.days).getTime();
  const last = authority.certificate.notAfter.getTime();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [commonNameOf(profile.uri)] }],
    issuer: authority.certificate.subjectName,
    publicKey: keys.publicKey,
    signingKey: authority.key,
    serialNumber: newSerial(),
    notBefore: notBefore(now),
    notAfter: new Date(Math.min(wanted, last)),
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(profile.usages.map((it) => x509.ExtendedKeyUsage[it])),
      new x509.SubjectAlternativeNameExtension([
        { type: "url", value: profile.uri },
        ...profile.dnsNames.map((value) => ({ type: "dns" as const, value })),
        ...profile.ipAddresses.map((value) => ({ type: "ip" as const, value })),
      ]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  });
  return { certificatePem: pem(certificate), keyPem: await privateKeyPem(keys.privateKey) };
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" } as const;

/** Peers whose clocks run behind accept a certificate at once. */
const CLOCK_SKEW_MS = 5 * 60 * 1000;
const DAY_MS = 24 * 60 * 60 * 1000;

/** RFC 5280, appendix A.1, `ub-common-name`. */
const COMMON_NAME_CHARS_MAX = 64;

function newKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

function newSerial(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(16)));
}

function notBefore(now: Date): Date {
  return new Date(now.getTime() - CLOCK_SKEW_MS);
}

function daysAfter(now: Date, days: number): Date {
  return new Date(now.getTime() + days * DAY_MS);
}

/** For people who read certificates; identity comes from the URI alone. */
function commonNameOf(uri: string): string {
  return uri.slice(uri.lastIndexOf("/") + 1).slice(0, COMMON_NAME_CHARS_MAX);
}

function readRoot(certificatePem: string): X509Certificate {
  try {
    const certificate = new x509.X509Certificate(certificatePem);
    if (certificate.getExtension(x509.BasicConstraintsExtension)?.ca === true) return certificate;
  } catch (cause) {
    throw new OperatorError("TLS_MATERIAL_INVALID", "the authority's certificate is unreadable", {
      cause,
    });
  }
  throw new OperatorError("TLS_MATERIAL_INVALID", "the certificate is not of an authority", {
    hint: "Point --ca-dir to the directory that `ztna pki init` wrote.",
  });
}

async function readPrivateKey(keyPem: string): Promise<CryptoKey> {
  try {
    const [der = new ArrayBuffer()] = x509.PemConverter.decode(keyPem);
    return await crypto.subtle.importKey("pkcs8", der, ALGORITHM, true, ["sign"]);
  } catch {
    // What the parser says may quote the key, so it is no cause.
    throw new OperatorError("TLS_MATERIAL_INVALID", "the authority's key is no P-256 PKCS #8 key", {
      hint: "Use the key that `ztna pki init` wrote, or issue with the tools of your own CA.",
    });
  }
}

async function publicKeyOf(privateKey: CryptoKey): Promise<Uint8Array> {
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", privateKey);
  const publicJwk = { kty, crv, x, y } as JsonWebKey;
  const key = await crypto.subtle.importKey("jwk", publicJwk, ALGORITHM, true, ["verify"]);
  return new Uint8Array(await crypto.subtle.exportKey("spki", key));
}

function pem(certificate: X509Certificate): string {
  return `${certificate.toString("pem")}\n`;
}

async function privateKeyPem(key: CryptoKey): Promise<string> {
  const der = await crypto.subtle.exportKey("pkcs8", key);
  return `${x509.PemConverter.encode(der, "PRIVATE KEY")}\n`;
}

function toHex(bytes: ArrayBuffer | Uint8Array): string {
  return Buffer.from(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes)).toString("hex");
}
