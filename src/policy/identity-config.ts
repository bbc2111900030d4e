/**
 * The keys of a role's configuration that say whom it trusts, and what they mean.
 *
 * One's own trust domain is that of one's own certificate, so most configurations name none.
 */
import { z } from "zod";
import { type Identity, type IdentityConfig, isTrustDomain, parseIdentity } from "./identity.ts";

const identityUri = z
  .string()
  .refine(
    (uri) => parseIdentity(uri) !== undefined,
    "expected ztna://<trust-domain>/<role>/<name>",
  );

/** Spread into the schema of a role. */
export const identityConfigFields = {
  /** Trust domains beside one's own. */
  trustDomains: z
    .array(z.string().refine(isTrustDomain, "expected a trust domain"))
    .max(64)
    .default([]),
  /** SPIFFE URI → identity. */
  spiffe: z.record(z.string().startsWith("spiffe://"), identityUri).default({}),
  /** SPKI SHA-256 in hex of a certificate without a URI SAN → identity. */
  identities: z.record(z.string().regex(/^[0-9a-f]{64}$/), identityUri).default({}),
};

export interface IdentityKeys {
  readonly trustDomains: readonly string[];
  readonly spiffe: Readonly<Record<string, string>>;
  readonly identities: Readonly<Record<string, string>>;
}

export interface OwnCertificate {
  readonly uris: readonly string[];
  readonly spkiSha256: string;
}

/** Returns who the own certificate says one is; `undefined` when it says nothing. */
export function ownIdentity(own: OwnCertificate, keys: IdentityKeys): Identity | undefined {
  const [uri, second] = own.uris;
  if (second !== undefined) return undefined;

  const text = uri === undefined ? keys.identities[own.spkiSha256] : (keys.spiffe[uri] ?? uri);
  return text === undefined ? undefined : parseIdentity(text);
}

/** Returns what `judgeLeaf` asks for, with one's own trust domain first. */
export function identityConfigOf(own: Identity, keys: IdentityKeys): IdentityConfig {
  return {
    trustDomains: [...new Set([own.trustDomain, ...keys.trustDomains])],
    spiffe: identityMap(keys.spiffe),
    identities: identityMap(keys.identities),
  };
}

function identityMap(uris: Readonly<Record<string, string>>): ReadonlyMap<string, Identity> {
  return new Map(
    Object.entries(uris).flatMap(([key, uri]) => {
      const identity = parseIdentity(uri);
      return identity === undefined ? [] : [[key, identity] as const];
    }),
  );
}
