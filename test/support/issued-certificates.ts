/** Certificates as `ztna pki` issues them, in files, for tests of the shells. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority, issue, readAuthority } from "../../src/pki/authority.ts";
import { profileOf } from "../../src/pki/certificate-profile.ts";
import type { PeerRole } from "../../src/policy/identity.ts";

/** Writes `ROLE.crt`, `ROLE.key` and the authority's `ca.crt`. */
export async function writeCertificates(
  directory: string,
  role: Exclude<PeerRole, "relay">,
  now: Date,
): Promise<void> {
  const authority = await createAuthority("corp.example", now);
  const request = { role, name: "one", trustDomain: "corp.example", services: ["echo"], days: 90 };
  const profile = profileOf({ ...request, hosts: [] });
  const leaf = await issue(await readAuthority(authority, now), profile, now);
  writeFileSync(join(directory, "ca.crt"), authority.certificatePem);
  writeFileSync(join(directory, `${role}.crt`), leaf.certificatePem);
  writeFileSync(join(directory, `${role}.key`), leaf.keyPem);
}
