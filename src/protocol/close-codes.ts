/** Why a connection or a session ended: application close codes of QUIC, by name in messages. */
export const CloseCode = {
  NO_ERROR: 0,
  PROTOCOL_VIOLATION: 1,
  UNAUTHENTICATED: 2,
  FORBIDDEN: 3,
  SHUTTING_DOWN: 4,
  REVOKED: 5,
  LIMIT_EXCEEDED: 6,
  INTERNAL: 7,
  IDLE: 8,
  SUPERSEDED: 9,
} as const;

export type CloseCodeName = keyof typeof CloseCode;

export const CLOSE_CODE_NAMES = Object.keys(CloseCode) as readonly CloseCodeName[];

/** Returns the name of a close code, or `undefined` for a number that is none. */
export function closeCodeName(code: number): CloseCodeName | undefined {
  return CLOSE_CODE_NAMES.find((name) => CloseCode[name] === code);
}

/**
 * Returns what the other peer of a session hears when a peer ends it with `code`. Who is forbidden,
 * revoked or unproven is the relay's own verdict, and ends more than one session: from a peer it means
 * no more than that the session is over.
 */
export function toldToPeer(code: CloseCodeName): CloseCodeName {
  return VERDICTS.has(code) ? "NO_ERROR" : code;
}

const VERDICTS: ReadonlySet<CloseCodeName> = new Set([
  "PROTOCOL_VIOLATION",
  "UNAUTHENTICATED",
  "FORBIDDEN",
  "REVOKED",
]);
