/** The `register` message, kept within one frame. */
import type { LegRequest } from "../leg/relay-leg.ts";
import { CONTROL_FRAME_BYTES_MAX, SESSIONS_PER_REGISTER_MAX } from "../protocol/limits.ts";
import type { RegisteredService } from "../protocol/messages.ts";

/** Of the services' JSON: leaves room for the rest of the message and for some sessions. */
export const SERVICES_JSON_BYTES_MAX = 61_440;

/** 32 digits, two quotes, a comma. */
const SESSION_BYTES = 35;
/** Everything in the message but services and sessions. */
const ENVELOPE_BYTES = 256;

/** @param held session ids, the latest first: they are left out when there is no room for all. */
export function registerRequest(
  services: readonly RegisteredService[],
  held: readonly string[],
  revocationsSeen: number,
): Extract<LegRequest, { readonly type: "register" }> {
  const room = CONTROL_FRAME_BYTES_MAX - ENVELOPE_BYTES - servicesBytes(services);
  const sessionsMax = Math.min(SESSIONS_PER_REGISTER_MAX, Math.floor(room / SESSION_BYTES));
  return { type: "register", services, sessions: held.slice(0, sessionsMax), revocationsSeen };
}

/** Octets of the services in a frame: names and numbers only, so a character is an octet. */
export function servicesBytes(services: readonly RegisteredService[]): number {
  return JSON.stringify(services).length;
}
