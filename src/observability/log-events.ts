/**
 * Everything the program can say: each message with the level it is said at.
 *
 * A message is a constant, lower-case fact; values travel in {@link LogFields}. The level follows
 * the consequence: `debug` a branch or a peer's mistake, `info` a change an operator would chart,
 * `warn` odd but served, `error` somebody should get up. A peer's address appears only where its
 * handshake is refused.
 */

export type Level = "trace" | "debug" | "info" | "warn" | "error";

export const LOG_EVENTS = {
  "role started": "info",
  "role stopping": "info",
  "role stopped": "info",
  "role stop overran its deadline": "error",
  "configuration reloaded": "info",
  "configuration reload refused": "error",
  "certificates reloaded": "info",
  "metrics listening": "info",
  "log lines dropped": "warn",

  "leg up": "info",
  "leg lost": "warn",
  "leg refused": "warn",
  "leg refused again": "debug",
  "leg superseded": "info",
  "leg dial failed": "debug",
  "relay draining": "info",
  "relay restarted": "info",

  "handshake refused": "warn",
  "protocol violation": "warn",
  "protocol violation again": "debug",

  "service registered": "info",
  "service registration rejected": "warn",
  "service withdrawn": "info",
  "backend resolved": "debug",
  "backend resolution failed": "warn",
  "backend up": "info",
  "backend down": "warn",

  "session up": "info",
  "session down": "info",
  "session refused": "info",
  "session renewed": "debug",
  "session usage": "info",
  "offer unanswered": "warn",

  "tunnel up": "info",
  "tunnel refused": "warn",
  "tunnel silent": "warn",
  "tunnel answers again": "info",

  "path proven": "debug",
  "path selected": "info",
  "path suspect": "info",
  "path recovered": "info",
  "path lost": "info",
  "path mtu changed": "debug",

  "flow opened": "debug",
  "flow refused": "debug",
  "flow closed": "debug",

  "tun opened": "info",
  "address pool moved": "warn",
  "control socket open": "info",

  "data plane warning": "warn",
  "data plane command failed": "error",
  "data plane events dropped": "warn",
  "data plane died": "error",
  "limit reached": "warn",
  "store not written": "error",

  "access decided": "info",
  revoked: "info",
} as const satisfies Record<string, Level>;

export type LogMessage = keyof typeof LOG_EVENTS;

/** The messages said at level `L`: a call at another level does not compile. */
export type MessageAt<L extends Level> = {
  [M in LogMessage]: (typeof LOG_EVENTS)[M] extends L ? M : never;
}[LogMessage];

/** The closed vocabulary of fields. A value that fits none of them needs a line here. */
export interface LogFields {
  readonly peer?: string;
  readonly identity?: string;
  readonly service?: string;
  readonly session?: string;
  readonly path?: string;
  readonly kind?: string;
  readonly candidate?: string;
  readonly local?: string;
  readonly remote?: string;
  readonly rule?: string;
  readonly decision?: string;
  readonly reason?: string;
  readonly code?: string | number;
  readonly bytes?: number;
  readonly rttMs?: number;
  readonly seed?: number;
  readonly relay?: string;
  readonly file?: string;
  readonly signal?: string;
  readonly version?: string;
  readonly count?: number;
  readonly detail?: string;
}
