/**
 * The data plane as the agent's and the connector's state machines see it.
 *
 * These are the shapes of `transport/endpoint.ts` that a machine without input or output may name:
 * the compiler holds both against each other where a shell sends a command or feeds an event.
 */
import type { LeafInfo } from "../policy/identity.ts";

export type ConnectionHandle = number;
export type PairId = number;

/** What the machines ask of the data plane. */
export type EndpointCommand =
  | {
      readonly type: "connect-tunnel";
      readonly connection: ConnectionHandle;
      readonly pair: PairId;
    }
  | { readonly type: "admit"; readonly connection: ConnectionHandle }
  | {
      readonly type: "close-connection";
      readonly connection: ConnectionHandle;
      readonly code: number;
      readonly reason: string;
    }
  | { readonly type: "ping-leg"; readonly connection: ConnectionHandle }
  | {
      readonly type: "send-control";
      readonly connection: ConnectionHandle;
      readonly frame: Uint8Array;
    }
  | {
      readonly type: "open-relayed-path";
      readonly pair: PairId;
      readonly leg: ConnectionHandle;
      /** The id that the relay issued. */
      readonly sendId: string;
      /** The id that this side issued. */
      readonly receiveId: string;
      /** Whether both ends are close: a tunnel that starts then has a large window. */
      readonly near: boolean;
    }
  | { readonly type: "close-channel"; readonly channel: string }
  | {
      readonly type: "set-local-credentials";
      readonly tunnel: ConnectionHandle;
      readonly credentials: Credentials;
    }
  | {
      readonly type: "set-candidates";
      readonly tunnel: ConnectionHandle;
      readonly generation: number;
      readonly credentials: Credentials;
      readonly candidates: readonly string[];
    }
  | { readonly type: "grant"; readonly tunnel: ConnectionHandle; readonly service: string }
  | {
      readonly type: "revoke";
      readonly tunnel: ConnectionHandle;
      readonly service: string;
      readonly code: number;
    }
  | { readonly type: "refuse-service"; readonly service: string; readonly answer: number };

export interface Credentials {
  readonly ufrag: string;
  readonly password: string;
}

/** A handshake that the data plane verified and the owner has yet to judge. */
export interface HandshakeEvent {
  readonly type: "handshake";
  readonly connection: ConnectionHandle;
  readonly kind: "leg" | "tunnel";
  readonly accepted: boolean;
  readonly pair?: PairId;
  readonly leaf: LeafInfo;
}

export interface ControlEvent {
  readonly type: "control";
  readonly connection: ConnectionHandle;
  readonly frame: Uint8Array;
}

export interface ClosedEvent {
  readonly type: "closed";
  readonly connection: ConnectionHandle;
  readonly by: "local" | "peer" | "idle-timeout" | "stateless-reset";
  readonly code: number;
  readonly application: boolean;
  readonly reason: string;
}

export interface LegSilentEvent {
  readonly type: "leg-silent";
  readonly connection: ConnectionHandle;
}

export interface TunnelSilentEvent {
  readonly type: "tunnel-silent";
  readonly tunnel: ConnectionHandle;
  readonly silent: boolean;
}

export interface FlowEvent {
  readonly type: "flow";
  readonly tunnel: ConnectionHandle;
  readonly service: string;
  readonly change: "opened" | "refused" | "closed";
  /** How many flows it happened to, at least one. */
  readonly count: number;
  /** Of all of them. */
  readonly bytesUp: number;
  readonly bytesDown: number;
}

/** Answers to a flow that this side decides on; the connector's own octets mean the same. */
export const FlowAnswer = {
  NotAvailable: 1,
  Unreachable: 3,
  TimedOut: 4,
  LimitExceeded: 5,
} as const;

/** Stream error code of flows whose session ended. */
export const FLOW_SESSION_ENDED = 7;
/** Stream error code of flows whose tunnel stayed silent. */
export const FLOW_UNREACHABLE = 3;

/** Returns `octets` unpredictable octets as lower-case hex. */
export type RandomHex = (octets: number) => string;
