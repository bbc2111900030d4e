/**
 * What the parts of the relay's state machine share: outputs, deadlines, judges and settings.
 *
 * It decides nothing. Each part pushes what it wants done; the machine hands it out in order.
 */
import { Deadlines } from "../base/deadlines.ts";
import { Queue } from "../base/queue.ts";
import { PolicyEngine, type PolicyTable } from "../policy/engine.ts";
import type { IdentityConfig } from "../policy/identity.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import type { FailureCode } from "../protocol/failure-codes.ts";
import type { LegMessage } from "../protocol/messages.ts";
import type { Leg, Peer } from "./peer-table.ts";
import type { RelayEvent, RelayOutput, RelaySettings, RelaySources } from "./relay-values.ts";
import type { Opening } from "./session-openings.ts";
import type { Session } from "./session-table.ts";

export type Timer =
  | { readonly type: "hello"; readonly leg: Leg }
  | { readonly type: "frames"; readonly leg: Leg }
  | { readonly type: "lost"; readonly peer: Peer }
  | { readonly type: "ping"; readonly peer: Peer }
  | { readonly type: "offer"; readonly connector: Peer; readonly request: number }
  | { readonly type: "connector"; readonly opening: Opening }
  | { readonly type: "lease"; readonly session: Session }
  | { readonly type: "failure"; readonly failure: DelayedFailure }
  | { readonly type: "lists" };

export interface DelayedFailure {
  readonly leg: Leg;
  readonly request: number;
  readonly code: FailureCode;
}

export class RelayContext {
  readonly settings: RelaySettings;
  readonly sources: RelaySources;
  readonly outputs = new Queue<RelayOutput>();
  readonly timers = new Deadlines<Timer>();
  policy: PolicyEngine;
  identities: IdentityConfig;

  constructor(
    settings: RelaySettings,
    sources: RelaySources,
    { policy, identities }: { readonly policy: PolicyTable; readonly identities: IdentityConfig },
  ) {
    this.settings = settings;
    this.sources = sources;
    this.policy = new PolicyEngine(policy);
    this.identities = identities;
  }

  push(output: RelayOutput): void {
    this.outputs.push(output);
  }

  event(event: RelayEvent): void {
    this.outputs.push({ type: "event", event });
  }

  /** Sends on the peer's leg; a peer without one learns nothing. */
  send(peer: Peer, message: LegMessage): void {
    if (peer.leg !== undefined) this.sendOn(peer.leg, message);
  }

  sendOn({ connection, proven, pacer }: Leg, message: LegMessage): void {
    if (proven.identity.role === "connector" && ANSWERED.has(message.type)) pacer.addCredit();
    this.outputs.push({ type: "send", connection, message });
  }

  fail({ connection }: Leg, request: number, code: FailureCode): void {
    const message = { type: "failed", request, code, reason: FAILURE_REASONS[code] } as const;
    this.outputs.push({ type: "send", connection, message });
  }

  close({ connection }: Leg, code: CloseCodeName, reason: string): void {
    this.outputs.push({ type: "close-connection", connection, code, reason });
  }
}

/** What a connector answers with one frame, as often as agents make the relay send it. */
const ANSWERED: ReadonlySet<LegMessage["type"]> = new Set(["session-offer", "session-close"]);

/** One text for each code, so that no text tells apart what the code does not. */
const FAILURE_REASONS: Readonly<Record<FailureCode, string>> = {
  "not-available": "no such service",
  "no-connector": "no connector of the service is connected",
  refused: "refused",
  "backend-unreachable": "the service is not reachable",
  "limit-exceeded": "a limit of the relay is reached",
  invalid: "the request makes no sense",
  draining: "the relay is shutting down",
  unsupported: "the relay does not know this request",
};
