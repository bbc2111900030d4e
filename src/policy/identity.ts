/**
 * Who a certificate proves a peer to be (`docs/protocol.md` §4).
 *
 * The judgement fails closed: every reason ends in "nobody", and the reasons are for the log and a
 * counter, never for the peer.
 *
 * - **One URI SAN names a peer**, `ztna://<trust-domain>/<role>/<name>`, or a SPIFFE URI that the
 *   configuration maps to one. None or two is nobody.
 * - **A certificate without a URI SAN counts only by its key**, if the configuration maps its SPKI:
 *   that is how certificates of the predecessor are taken over.
 * - **Role and extended key usage must fit the connection**, and the trust domain must be trusted.
 *
 * Whether the chain and the validity hold is the data plane's judgement, made before this one.
 */
import { err, ok, type Result } from "../base/result.ts";
import { PEER_NAME_CHARS_MAX, TRUST_DOMAIN_CHARS_MAX } from "../protocol/limits.ts";
import { type Grants, readGrants } from "./grants.ts";

export const PEER_ROLES = ["agent", "connector", "relay", "admin"] as const;

export type PeerRole = (typeof PEER_ROLES)[number];

export interface Identity {
  /** `ztna://<trust-domain>/<role>/<name>`: what tables are keyed by and rules match on. */
  readonly uri: string;
  readonly trustDomain: string;
  readonly role: PeerRole;
  readonly name: string;
}

/** What a leaf certificate says, as the data plane read it. */
export interface LeafInfo {
  readonly spkiSha256: string;
  readonly issuer: string;
  readonly serial: string;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly clientAuth: boolean;
  readonly serverAuth: boolean;
  /** Seconds since 1970. */
  readonly notAfter: number;
}

/** Whom this process trusts to say who somebody is. */
export interface IdentityConfig {
  /** One's own and those configured besides. */
  readonly trustDomains: readonly string[];
  /** SPIFFE URI → identity. */
  readonly spiffe: ReadonlyMap<string, Identity>;
  /** SPKI SHA-256 of a certificate without URI SAN → identity. */
  readonly identities: ReadonlyMap<string, Identity>;
}

/** What a connection demands of the peer at its other end. */
export interface Expectation {
  /** Whether the peer dialled (and we accepted) or was dialled. */
  readonly peer: "dialled-us" | "was-dialled";
  readonly roles: readonly PeerRole[];
}

export interface ProvenPeer {
  readonly identity: Identity;
  readonly spki: string;
  readonly issuer: string;
  readonly serial: string;
  readonly grants: Grants;
  /** Seconds since 1970. */
  readonly notAfter: number;
}

export interface Nobody {
  readonly reason: NobodyReason;
  /** For the log. */
  readonly detail: string;
}

export const NOBODY_REASONS = [
  "no-uri-san",
  "several-uri-sans",
  "uri-malformed",
  "spiffe-unmapped",
  "foreign-trust-domain",
  "wrong-role",
  "wrong-key-usage",
] as const;

export type NobodyReason = (typeof NOBODY_REASONS)[number];

/** Returns who the certificate proves, or why it proves nobody for this connection. */
export function judgeLeaf(
  leaf: LeafInfo,
  expectation: Expectation,
  config: IdentityConfig,
): Result<ProvenPeer, Nobody> {
  const named = nameOf(leaf, config);
  if (!named.ok) return named;

  const identity = named.value;
  if (!config.trustDomains.includes(identity.trustDomain)) {
    return nobody(
      "foreign-trust-domain",
      `certificate is of ${identity.trustDomain}, trusted is ${config.trustDomains.join(", ")}`,
    );
  }
  if (!expectation.roles.includes(identity.role)) {
    return nobody(
      "wrong-role",
      `certificate is of role ${identity.role}, expected ${expectation.roles.join(" or ")}`,
    );
  }
  const missing = missingKeyUsage(leaf, identity.role, expectation);
  if (missing !== undefined) {
    return nobody("wrong-key-usage", `certificate of ${identity.uri} has no usage ${missing}`);
  }

  const { spkiSha256: spki, issuer, serial, notAfter } = leaf;
  const starGrantsAll = leaf.uris.length === 0;
  const grants = readGrants(leaf.dnsNames, { starGrantsAll });
  return ok({ identity, spki, issuer, serial, grants, notAfter });
}

/** Parses `ztna://<trust-domain>/<role>/<name>`; nothing else has a meaning. */
export function parseIdentity(uri: string): Identity | undefined {
  const match = IDENTITY.exec(uri);
  const [, trustDomain = "", role = "", name = ""] = match ?? [];
  if (match === null || trustDomain.length > TRUST_DOMAIN_CHARS_MAX) return undefined;
  if (name.length > PEER_NAME_CHARS_MAX || !isPeerRole(role)) return undefined;

  return { uri, trustDomain, role, name };
}

export function isTrustDomain(text: string): boolean {
  return text.length <= TRUST_DOMAIN_CHARS_MAX && /^[a-z0-9._-]+$/.test(text);
}

const IDENTITY = /^ztna:\/\/([a-z0-9._-]+)\/([a-z]+)\/([a-z0-9._-]+)$/;
const URI_DETAIL_CHARS_MAX = 200;

function nameOf(leaf: LeafInfo, config: IdentityConfig): Result<Identity, Nobody> {
  const [uri, second] = leaf.uris;
  if (uri === undefined) {
    const mapped = config.identities.get(leaf.spkiSha256);
    return mapped === undefined
      ? nobody("no-uri-san", `certificate with SPKI ${leaf.spkiSha256} has no URI SAN`)
      : ok(mapped);
  }
  if (second !== undefined) {
    return nobody("several-uri-sans", `certificate has ${leaf.uris.length} URI SANs`);
  }
  if (uri.startsWith("spiffe://")) {
    const mapped = config.spiffe.get(uri);
    return mapped === undefined ? nobody("spiffe-unmapped", clip(uri)) : ok(mapped);
  }

  const identity = parseIdentity(uri);
  return identity === undefined ? nobody("uri-malformed", clip(uri)) : ok(identity);
}

/** A connector dials relays and accepts tunnels, so it needs both usages everywhere. */
function missingKeyUsage(
  leaf: LeafInfo,
  role: PeerRole,
  { peer }: Expectation,
): string | undefined {
  const both = role === "connector";
  if ((both || peer === "dialled-us") && !leaf.clientAuth) return "clientAuth";
  if ((both || peer === "was-dialled") && !leaf.serverAuth) return "serverAuth";
  return undefined;
}

function isPeerRole(text: string): text is PeerRole {
  return PEER_ROLES.some((role) => role === text);
}

function nobody(reason: NobodyReason, detail: string): Result<never, Nobody> {
  return err({ reason, detail });
}

function clip(text: string): string {
  return JSON.stringify(text.slice(0, URI_DETAIL_CHARS_MAX));
}
