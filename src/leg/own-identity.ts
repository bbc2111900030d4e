/** Who this process is by its own certificate: a role does not start with the certificate of another. */
import { OperatorError } from "../base/error.ts";
import type { Identity, IdentityConfig, PeerRole } from "../policy/identity.ts";
import {
  type IdentityKeys,
  identityConfigOf,
  type OwnCertificate,
  ownIdentity,
} from "../policy/identity-config.ts";

export interface OwnIdentity {
  readonly own: Identity;
  /** Whom this process trusts besides. */
  readonly identities: IdentityConfig;
}

/** @throws OperatorError when the certificate is of no such role. */
export function requireOwnIdentity(
  role: PeerRole,
  leaf: OwnCertificate,
  config: IdentityKeys & { readonly certificate: string },
): OwnIdentity {
  const own = ownIdentity(leaf, config);
  if (own?.role === role) return { own, identities: identityConfigOf(own, config) };

  const found = leaf.uris.length === 0 ? "no URI SAN" : leaf.uris.join(", ");
  throw new OperatorError(
    "CERTIFICATE_INVALID",
    `the certificate ${config.certificate} names no ${role}: it has ${found}`,
    { hint: `Issue one with \`ztna pki issue ${role} NAME --service SERVICE\`.` },
  );
}
