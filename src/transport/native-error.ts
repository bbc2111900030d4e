/** Turns what the data plane refuses into what an operator reads. */
import { ERROR_CODES, type ErrorCode, OperatorError } from "../base/error.ts";

/** The binding begins each message with its code. */
const CODED = /^(?<code>[A-Z_]+): (?<message>.*)$/s;

const HINTS: Partial<Record<ErrorCode, string>> = {
  ADDRESS_IN_USE: "Stop the other process or choose another address with --listen.",
  ADDRESS_UNAVAILABLE: "Use an address of this machine, or 0.0.0.0 or [::] for all of them.",
};

/** Returns an {@link OperatorError} for a coded refusal, and anything else, a bug, as it is. */
export function describeNativeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, message } = CODED.exec(error.message)?.groups ?? {};
  const known = ERROR_CODES.find((it) => it === code);
  if (known === undefined || message === undefined) return error;

  const hint = HINTS[known];
  return new OperatorError(known, message, hint === undefined ? {} : { hint });
}
