import type { LegEvent } from "../leg/leg-event.ts";

/** What the agent tells people: one value for each line of its log. */
export type AgentEvent =
  | LegEvent
  | { readonly type: "services-left-out"; readonly relay: string; readonly count: number }
  | {
      readonly type: "service-granted";
      readonly service: string;
      readonly peer: string;
      readonly session: string | undefined;
    }
  | {
      readonly type: "service-failed";
      readonly service: string;
      readonly code: string;
      readonly reason: string;
    }
  | {
      readonly type: "service-ended";
      readonly service: string;
      readonly code: string;
      readonly reason: string;
    }
  /** A connector broke the protocol. */
  | { readonly type: "tunnel-violation"; readonly peer: string; readonly reason: string }
  | { readonly type: "tunnel-silent"; readonly peer: string; readonly silent: boolean };
