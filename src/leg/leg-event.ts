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
  | {
      readonly type: "relay-attempt-failed";
      readonly relay: string;
      readonly reason: string;
      /** Whether the relay did not prove itself: worth a warning. */
      readonly refused: boolean;
    }
  | { readonly type: "relay-draining"; readonly relay: string; readonly deadlineMs: number };
