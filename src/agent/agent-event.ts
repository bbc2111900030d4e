/** What the agent tells people: one value for each line of its log. */
export type AgentEvent =
  | {
      readonly type: "relay-ready";
      readonly relay: string;
      readonly observed: string;
      readonly newEpoch: boolean;
    }
  | { readonly type: "relay-lost"; readonly relay: string; readonly reason: string }
  | {
      readonly type: "relay-attempt-failed";
      readonly relay: string;
      readonly reason: string;
      /** Whether the relay did not prove itself: worth a warning. */
      readonly refused: boolean;
    }
  | { readonly type: "relay-draining"; readonly relay: string; readonly deadlineMs: number }
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
  | { readonly type: "tunnel-silent"; readonly peer: string; readonly silent: boolean };
