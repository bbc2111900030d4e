/** Why an application does not reach a service: what it is answered and what `status` says. */
import { FlowAnswer } from "../leg/endpoint-port.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import type { FailureCode } from "../protocol/failure-codes.ts";
import type { Failed } from "../protocol/messages.ts";
import type { AccessFailure } from "./tunnel-report.ts";

export const NO_RELAY: AccessFailure = {
  code: "no-relay",
  reason: "no relay that offers the service is connected",
  answer: FlowAnswer.Unreachable,
};

/** Absent and not granted are the same here: a relay lists neither. */
export const NOT_LISTED: AccessFailure = {
  code: "not-available",
  reason: "no relay offers the service to this agent",
  answer: FlowAnswer.NotAvailable,
};

export const STILL_OPENING: AccessFailure = {
  code: "timed-out",
  reason: "the session did not open in time",
  answer: FlowAnswer.TimedOut,
};

export const SESSIONS_EXHAUSTED: AccessFailure = {
  code: "limit-exceeded",
  reason: "every session that this agent may have carries flows",
  answer: FlowAnswer.LimitExceeded,
};

/** Failures that say the connector is not who it has to be. */
export const UNPROVEN_CODES: ReadonlySet<string> = new Set([
  "connector-refused",
  "connector-not-entitled",
]);

export function failureOfAnswer({ code, reason }: Failed): AccessFailure {
  return { code, reason: `the relay refused: ${reason || code}`, answer: ANSWERS[code] };
}

export function sessionClosed(code: CloseCodeName, reason: string): AccessFailure {
  const denied = code === "FORBIDDEN" || code === "REVOKED";
  const answer = denied ? FlowAnswer.NotAvailable : FlowAnswer.Unreachable;
  return { code: "session-ended", reason: `the session ended: ${code}, ${reason}`, answer };
}

const ANSWERS: Readonly<Record<FailureCode, number>> = {
  "not-available": FlowAnswer.NotAvailable,
  refused: FlowAnswer.NotAvailable,
  invalid: FlowAnswer.NotAvailable,
  unsupported: FlowAnswer.NotAvailable,
  "no-connector": FlowAnswer.Unreachable,
  "backend-unreachable": FlowAnswer.Unreachable,
  draining: FlowAnswer.Unreachable,
  "limit-exceeded": FlowAnswer.LimitExceeded,
};
