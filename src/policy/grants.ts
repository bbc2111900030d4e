/**
 * What a certificate's DNS SANs grant (`docs/protocol.md` §4).
 *
 * `agent.<service>.ztna` may use a service, `connector.<service>.ztna` may provide it, and
 * `agent.ztna` / `connector.ztna` grant every service. Case does not matter. Any other name grants
 * nothing, `*` least of all, except in a certificate of the predecessor.
 */
import { isServiceName } from "../protocol/service-name.ts";

export interface Grants {
  readonly use: ServiceSet;
  readonly provide: ServiceSet;
}

/** Services by name, or all there are. */
export type ServiceSet = "all" | ReadonlySet<string>;

export const NO_GRANTS: Grants = { use: new Set(), provide: new Set() };

export function readGrants(
  dnsNames: readonly string[],
  { starGrantsAll }: { readonly starGrantsAll: boolean },
): Grants {
  const names = dnsNames.map((name) => name.toLowerCase());
  if (starGrantsAll && names.includes("*")) return { use: "all", provide: "all" };

  return { use: granted(names, "agent"), provide: granted(names, "connector") };
}

export function includesService(services: ServiceSet, service: string): boolean {
  return services === "all" ? isServiceName(service) : services.has(service);
}

function granted(names: readonly string[], role: "agent" | "connector"): ServiceSet {
  if (names.includes(`${role}.ztna`)) return "all";

  const services = new Set<string>();
  for (const name of names) {
    const [first, service = "", last, ...rest] = name.split(".");
    if (first !== role || last !== "ztna" || rest.length > 0) continue;
    if (isServiceName(service)) services.add(service);
  }
  return services;
}
