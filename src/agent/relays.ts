/** The agent's relays as its sessions see them, by number in the order of the configuration. */
import type { Instant } from "../base/time.ts";
import type { ConnectionHandle } from "../leg/endpoint-port.ts";
import type { LegRequest } from "../leg/relay-leg.ts";
import type { LegMessage } from "../protocol/messages.ts";

export interface Relays {
  readonly count: number;
  /** Returns the leg that is ready, if one is. */
  leg(relay: number): ConnectionHandle | undefined;
  /** Returns whether the relay says that this agent may use the service. */
  lists(relay: number, service: string): boolean;
  /** Returns the request's number, or `undefined` when nothing can be asked. */
  request(relay: number, body: LegRequest, now: Instant): number | undefined;
  send(relay: number, message: LegMessage): void;
}

/** Whether any relay says that this agent may use the service. */
export function isListed(relays: Relays, service: string): boolean {
  const numbers = Array.from({ length: relays.count }, (_, relay) => relay);
  return numbers.some((relay) => relays.lists(relay, service));
}
