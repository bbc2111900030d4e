/**
 * Whether a relay's certificate is of the relay that was dialled (`docs/protocol.md` §4).
 *
 * The host must equal a DNS or IP SAN. A wildcard matches nothing: a relay is one host. A pinned
 * name stands in the place of the host, for a relay that is dialled by an address which no
 * certificate names.
 */
import { formatIp, parseIp } from "../protocol/address.ts";
import type { LeafInfo } from "./identity.ts";

export function isRelayNamed(
  leaf: Pick<LeafInfo, "dnsNames" | "ipAddresses">,
  /** As dialled, without port and brackets; or the pinned name. */
  host: string,
): boolean {
  const ip = canonicalIp(host);
  if (ip !== undefined) return leaf.ipAddresses.some((name) => canonicalIp(name) === ip);

  const wanted = host.toLowerCase();
  return wanted !== "" && leaf.dnsNames.some((name) => name.toLowerCase() === wanted);
}

function canonicalIp(text: string): string | undefined {
  const ip = parseIp(text);
  return ip === undefined ? undefined : formatIp(ip);
}
