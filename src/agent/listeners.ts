/** What the configuration says about how applications reach services, as commands and listeners. */
import type { Command, LocalListener } from "../transport/endpoint.ts";
import type { AgentConfig } from "./agent-config.ts";
import { parseForward } from "./forward-spec.ts";

const UNIX_PREFIX = "unix:";

export function listenersOf({ forward, socks }: AgentConfig): LocalListener[] {
  const forwards = forward.flatMap((text) => parseForward(text) ?? []);
  return socks === undefined ? forwards : [...forwards, { type: "socks", bind: socks }];
}

/**
 * Returns the command that opens the source of IP packets, if one is configured.
 *
 * @param addresses of a device that this agent makes; an inherited one is configured by its owner.
 */
export function packetSourceOf(
  { tun, tunFd, packets, mtu }: Pick<AgentConfig, "tun" | "tunFd" | "packets" | "mtu">,
  addresses: readonly string[],
): Command | undefined {
  if (tun !== undefined) return { type: "open-tun", source: { name: tun }, mtu, addresses };
  if (tunFd !== undefined) {
    return { type: "open-tun", source: { descriptor: tunFd }, mtu, addresses: [] };
  }
  if (packets === undefined) return undefined;
  return { type: "attach-packets", path: packets.slice(UNIX_PREFIX.length), mtu };
}
