/** What becomes of the legs of an agent or a connector: one value for each line of its log. */
export type LegEvent =
  | {
      readonly type: "relay-ready";
      readonly relay: string;
      /** This side's address as the relay sees it. */
      readonly observed: string;
      readonly newEpoch: boolean;
    }
  | { readonly type: "relay-lost"; readonly relay: string; readonly reason: string }
  /** The relay broke the protocol. */
  | { readonly type: "relay-violation"; readonly relay: string; readonly reason: string }
  | {
      readonly type: "relay-attempt-failed";
      readonly relay: string;
      readonly reason: string;
      /** Whether one side would not have the other: worth a warning. */
      readonly refused: boolean;
    }
  | { readonly type: "relay-draining"; readonly relay: string; readonly deadlineMs: number };
