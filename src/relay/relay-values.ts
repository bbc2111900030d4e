/** What goes into the relay's state machine, what comes out, and what it is configured with. */

import type { Instant } from "../base/time.ts";
import type { PolicyTable } from "../policy/engine.ts";
import type { IdentityConfig, LeafInfo, NobodyReason, PeerRole } from "../policy/identity.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import type { DecodeErrorReason } from "../protocol/errors.ts";
import type { FailureCode } from "../protocol/failure-codes.ts";
import type { LegMessage, Revoked } from "../protocol/messages.ts";

/** A leg, numbered by the data plane. */
export type ConnectionHandle = number;

/** A key, or a certificate of an issuer, that proves nobody any more. */
export type RevokedName =
  | { readonly spki: string }
  | { readonly issuer: string; readonly serial: string };

/** As a message carries it, with the number that the relay's store gave it. */
export type Revocation = Omit<Revoked, "type"> & { readonly sequence: number };

/**
 * The peer said goodbye; it was revoked; the data plane could not tell its frames apart; or the
 * connection was lost and may come back.
 */
export type HowClosed = "goodbye" | "revoked" | "violation" | "lost";

export type RelayInput =
  | {
      readonly type: "handshake";
      readonly connection: ConnectionHandle;
      readonly remote: string;
      readonly leaf: LeafInfo;
      /** The leaf's notAfter on the machine's clock. */
      readonly expiresAt: Instant;
    }
  | {
      readonly type: "frame";
      readonly connection: ConnectionHandle;
      readonly frame: Uint8Array;
      /** Least round-trip time of the connection so far. */
      readonly rttUs: number | undefined;
    }
  | {
      readonly type: "closed";
      readonly connection: ConnectionHandle;
      readonly how: HowClosed;
      /** What the data plane says of a violation. */
      readonly detail?: string;
    }
  | { readonly type: "leg-silent"; readonly connection: ConnectionHandle }
  | { readonly type: "revoke"; readonly name: RevokedName }
  | {
      readonly type: "configure";
      readonly policy: PolicyTable;
      readonly identities: IdentityConfig;
    };

export type RelayOutput =
  | { readonly type: "admit"; readonly connection: ConnectionHandle }
  | {
      readonly type: "close-connection";
      readonly connection: ConnectionHandle;
      readonly code: CloseCodeName;
      readonly reason: string;
    }
  | { readonly type: "ping-leg"; readonly connection: ConnectionHandle }
  | {
      readonly type: "send";
      readonly connection: ConnectionHandle;
      readonly message: LegMessage;
    }
  | {
      readonly type: "open-channel";
      readonly a: ChannelSide;
      readonly b: ChannelSide;
      readonly rateBps: number;
    }
  | {
      readonly type: "move-channels";
      readonly from: ConnectionHandle;
      readonly to: ConnectionHandle;
    }
  | { readonly type: "close-channel"; readonly channel: string }
  /** To be written down before the process ends. */
  | { readonly type: "remember-revocation"; readonly revocation: Revocation }
  | { readonly type: "event"; readonly event: RelayEvent };

export interface ChannelSide {
  readonly leg: ConnectionHandle;
  /** Issued by the relay: comes in. */
  readonly relayId: string;
  /** Issued by the client: goes out. */
  readonly clientId: string;
}

/** What the shell logs, counts and audits. */
export type RelayEvent =
  | {
      readonly type: "leg-refused";
      readonly remote: string;
      readonly reason: NobodyReason | "revoked" | "legs-exceeded" | "expired";
      readonly detail: string;
    }
  | {
      readonly type: "leg-up";
      readonly identity: string;
      readonly role: PeerRole;
      readonly instance: string;
      readonly remote: string;
    }
  | {
      readonly type: "leg-down";
      readonly identity: string;
      readonly reason: "lost" | "goodbye" | "superseded" | "revoked" | "closed";
      readonly code?: CloseCodeName;
    }
  | {
      readonly type: "protocol-violation";
      readonly identity: string;
      readonly reason: DecodeErrorReason | "unexpected" | "no-hello" | "framing";
      readonly detail: string;
    }
  | { readonly type: "frame-rate-exceeded"; readonly identity: string }
  /** Of one registration: what it added, what it took away, what of it was refused. */
  | {
      readonly type: "registered" | "withdrawn";
      readonly identity: string;
      readonly services: readonly string[];
    }
  | {
      readonly type: "registration-rejected";
      readonly identity: string;
      readonly rejected: readonly Rejection[];
    }
  /** For the audit, whichever way it went. */
  | {
      readonly type: "decided";
      readonly identity: string;
      readonly spki: string;
      readonly service: string;
      readonly decision: "allow" | "deny";
      readonly rule: string;
    }
  | {
      readonly type: "session-up";
      readonly session: string;
      readonly identity: string;
      readonly connector: string;
      readonly service: string;
    }
  | { readonly type: "session-renewed"; readonly session: string }
  | {
      readonly type: "session-refused";
      readonly identity: string;
      readonly service: string;
      readonly code: FailureCode;
    }
  | {
      readonly type: "session-down";
      readonly session: string;
      readonly identity: string;
      readonly service: string;
      readonly code: CloseCodeName;
      readonly reason: string;
    }
  | {
      readonly type: "session-usage";
      readonly session: string;
      readonly identity: string;
      readonly service: string;
      readonly flows: number;
      readonly bytes: number;
    }
  | { readonly type: "offer-unanswered"; readonly identity: string }
  | { readonly type: "limit-reached"; readonly identity: string; readonly limit: string };

/** A service that a connector may not provide, or not so. */
export interface Rejection {
  readonly name: string;
  readonly code: FailureCode;
}

export interface RelaySettings {
  /** "host:port" under which clients know this relay. */
  readonly relay: string;
  /** 64 hex digits, random at each start. */
  readonly epoch: string;
  /** Where the relay answers address discovery. */
  readonly stunAddresses: readonly string[];
  readonly leaseMs: number;
  /** Bit a second and channel each way, 0 = no limit. */
  readonly channelRateBps: number;
  readonly limits: RelayLimits;
}

export interface RelayLimits {
  readonly servicesPerConnector: number;
  readonly servicesPerAgent: number;
  readonly sessionsPerAgent: number;
  readonly channelsPerAgentLeg: number;
  readonly channelsPerConnectorLeg: number;
  readonly legsPerIdentity: number;
  /** Of an agent; a connector has ten times as many. */
  readonly framesPerSecond: number;
  readonly framesBurst: number;
}

/** Chance and ids come from outside. */
export interface RelaySources {
  /** Unpredictable, twice as many digits as octets. */
  readonly randomHex: (octets: number) => string;
  /** Uniform in [0, 1). */
  readonly randomUnit: () => number;
  /** Unused so far in this process. */
  readonly issueChannelId: () => string;
}
