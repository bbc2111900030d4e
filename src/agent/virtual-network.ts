/** Puts the virtual addresses of an earlier run back in place, or moves them out of the host's way. */
import type { AgentConfig } from "./agent-config.ts";
import type { AgentMemory } from "./agent-store.ts";
import { formatIpv4Network, type Ipv4Network, parseIpv4Network } from "./ipv4-network.ts";
import { chooseIpv4Pool, ServiceMap } from "./service-map.ts";

export interface RestoredMap {
  readonly map: ServiceMap;
  /** Whether the pool is not the configured one. */
  readonly moved: boolean;
}

/** @param hostNetworks what the host reaches already, but for the named device. */
export function restoreServiceMap(
  config: Pick<AgentConfig, "ipv4Pool" | "pins" | "tun">,
  memory: Pick<AgentMemory, "pool" | "addresses">,
  hostNetworks: (ownDevice?: string) => readonly Ipv4Network[],
): RestoredMap {
  const configured = parseIpv4Network(config.ipv4Pool);
  const pins = pinsWithin(config.pins);
  if (configured === undefined) return { map: new ServiceMap(undefined, pins), moved: false };

  const taken = hostNetworks(config.tun);
  // A pool that was moved once stays where it is: addresses in use are worth more than order.
  const before = parseIpv4Network(memory.pool ?? "");
  const preferred = before?.prefix === configured.prefix ? before : configured;
  const pool = chooseIpv4Pool(preferred, taken) ?? chooseIpv4Pool(configured, taken);
  const moved = pool === undefined || formatIpv4Network(pool) !== formatIpv4Network(configured);
  return { map: new ServiceMap(pool, pins, memory.addresses), moved };
}

/** Absent keys, not keys that are undefined. */
function pinsWithin(pins: AgentConfig["pins"]) {
  return Object.fromEntries(
    Object.entries(pins).map(([service, { ipv4, ipv6 }]) => [
      service,
      { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) },
    ]),
  );
}
