/** Why a request was not done: the `code` of `failed` and of a rejected registration. */
export const FAILURE_CODES = [
  /** No such service, or not for this peer: the same words, at the same time. */
  "not-available",
  /** The service exists and is granted; no connector for it is connected. */
  "no-connector",
  "refused",
  "backend-unreachable",
  "limit-exceeded",
  /** A field of the request has no meaning. */
  "invalid",
  "draining",
  /** A request that this version does not know. */
  "unsupported",
] as const;

export type FailureCode = (typeof FAILURE_CODES)[number];
