/**
 * Why octets from a peer were refused.
 *
 * `reason` is a closed set so that each can be counted; `detail` is for the log line only and holds
 * no more than a line of what the peer sent, as plain text.
 */
export interface DecodeError {
  readonly reason: DecodeErrorReason;
  readonly detail: string;
}

export const DECODE_ERROR_REASONS = [
  "too-long",
  "not-utf8",
  "too-deep",
  "duplicate-key",
  "not-json",
  "not-an-object",
  "no-type",
  "invalid-value",
] as const;

export type DecodeErrorReason = (typeof DECODE_ERROR_REASONS)[number];
