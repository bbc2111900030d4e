import type { LegEvent } from "../leg/leg-event.ts";

/** What the connector tells people: one value for each line of its log or its audit trail. */
export type ConnectorEvent =
  | LegEvent
  | { readonly type: "registered"; readonly relay: string; readonly services: readonly string[] }
  | {
      readonly type: "registration-rejected";
      readonly relay: string;
      readonly service: string;
      readonly code: string;
    }
  | { readonly type: "registration-failed"; readonly relay: string; readonly reason: string }
  | {
      readonly type: "offer-refused";
      readonly service: string;
      readonly identity: string;
      readonly code: string;
    }
  | {
      readonly type: "session-opened";
      readonly session: string;
      readonly service: string;
      readonly identity: string;
    }
  | {
      readonly type: "session-ended";
      readonly session: string;
      readonly service: string;
      readonly identity: string;
      readonly reason: string;
    }
  | { readonly type: "tunnel-admitted"; readonly identity: string }
  | { readonly type: "tunnel-refused"; readonly identity: string; readonly reason: string }
  /** An agent broke the protocol. */
  | { readonly type: "tunnel-violation"; readonly identity: string; readonly reason: string }
  /** For the audit trail: each service that an agent asked for on its tunnel. */
  | {
      readonly type: "access";
      readonly identity: string;
      readonly service: string;
      readonly decision: "allow" | "deny";
      /** What decided. */
      readonly rule: AccessRule;
    }
  | { readonly type: "revocations-left-out"; readonly count: number };

/** In the order in which they are asked. */
export type AccessRule = "service" | "certificate" | "session" | "granted";
