/** What the end of a connection means for the side that dialled or accepted it. */
import { CloseCode, closeCodeName } from "../protocol/close-codes.ts";
import { plainText } from "../protocol/plain-text.ts";
import type { ClosedEvent } from "./endpoint-port.ts";

/** Whether one side would not have the other: a matter of certificates or policy. */
export function isRefusal({ application, code }: ClosedEvent): boolean {
  return application ? REFUSALS.has(code) : code >= TLS_ALERT_BASE;
}

/** Whether the data plane itself found the peer to break the protocol. */
export function isViolation({ by, application, code }: ClosedEvent): boolean {
  return by === "local" && application && code === CloseCode.PROTOCOL_VIOLATION;
}

/** Returns one line about why a connection ended. */
export function describeClose({ by, code, application, ...event }: ClosedEvent): string {
  if (by === "idle-timeout") return "nothing was heard for too long";
  if (by === "stateless-reset") return "the peer does not know the connection";

  const name = application ? (closeCodeName(code) ?? `code ${code}`) : `QUIC error ${code}`;
  const reason = plainText(event.reason);
  const who = by === "peer" ? "closed by the peer" : "closed here";
  return reason === "" ? `${who}: ${name}` : `${who}: ${name}, ${reason}`;
}

/** QUIC carries a TLS alert as 0x100 + alert (RFC 9001 §4.8). */
const TLS_ALERT_BASE = 0x1_00;

const REFUSALS: ReadonlySet<number> = new Set([
  CloseCode.UNAUTHENTICATED,
  CloseCode.FORBIDDEN,
  CloseCode.REVOKED,
]);
