/**
 * All legs of one agent or connector, by number in the order of the configuration.
 *
 * It does what both roles do alike: hands each input to the leg that it concerns, keeps what is known
 * of each relay, and turns the rest into outputs of the machine around it.
 */
import { earliest, type Instant } from "../base/time.ts";
import type { LegMessage } from "../protocol/messages.ts";
import type {
  ClosedEvent,
  ConnectionHandle,
  ControlEvent,
  EndpointCommand,
  HandshakeEvent,
  LegSilentEvent,
} from "./endpoint-port.ts";
import type { JudgePeer } from "./judge.ts";
import type { LegEvent } from "./leg-event.ts";
import { type LegAnswer, type LegOutput, RelayLeg, type RelayLegOptions } from "./relay-leg.ts";

export interface ConfiguredRelay {
  /** "host:port" as configured. */
  readonly name: string;
  readonly judge: JudgePeer;
}

export interface RelaySlot {
  readonly name: string;
  readonly leg: RelayLeg;
  /** This side's address as the relay sees it. */
  observed: string | undefined;
  /** Why the relay is not connected. */
  lastFailure: string | undefined;
}

type RelayLegsOutput =
  | { readonly type: "command"; readonly command: EndpointCommand }
  | {
      readonly type: "dial";
      readonly relay: number;
      readonly connection: ConnectionHandle;
      readonly attempt: number;
    }
  | { readonly type: "event"; readonly event: LegEvent }
  | RelayNews;

/** What a role answers in its own way. */
export type RelayNews =
  | {
      readonly type: "ready";
      readonly relay: number;
      readonly connection: ConnectionHandle;
      /** Whether the relay has forgotten what this process told it. */
      readonly newEpoch: boolean;
    }
  | { readonly type: "lost"; readonly relay: number }
  | { readonly type: "message"; readonly relay: number; readonly message: LegMessage }
  | {
      readonly type: "answered";
      readonly relay: number;
      readonly request: number;
      readonly answer: LegAnswer;
    }
  | {
      readonly type: "unanswered";
      readonly relay: number;
      readonly request: number;
      readonly reason: string;
    }
  | { readonly type: "late-answer"; readonly relay: number; readonly answer: LegAnswer };

export function newRelaySlot(
  { name, judge }: ConfiguredRelay,
  options: Omit<RelayLegOptions, "judgeRelay">,
  now: Instant,
): RelaySlot {
  const leg = new RelayLeg({ ...options, judgeRelay: judge }, now);
  return { name, leg, observed: undefined, lastFailure: undefined };
}

export class RelayLegs<Slot extends RelaySlot> {
  readonly slots: readonly Slot[];
  readonly #outputs: RelayLegsOutput[] = [];

  constructor(slots: readonly Slot[]) {
    this.slots = slots;
  }

  handleStart(now: Instant): void {
    for (const { leg } of this.slots) leg.handleStart(now);
  }

  handleHandshake(event: HandshakeEvent): void {
    this.#legOf(event)?.handleHandshake(event);
  }

  handleControl(event: ControlEvent, now: Instant): void {
    this.#legOf(event)?.handleControl(event, now);
  }

  handleClosed(event: ClosedEvent, now: Instant): void {
    this.#legOf(event)?.handleClosed(event, now);
  }

  handleLegSilent(event: LegSilentEvent, now: Instant): void {
    this.#legOf(event)?.handleLegSilent(event, now);
  }

  /** The judges have changed. */
  handleIdentities(now: Instant): void {
    for (const { leg } of this.slots) leg.handleIdentities(now);
  }

  handleTimeout(now: Instant): void {
    for (const { leg } of this.slots) leg.handleTimeout(now);
  }

  /** Takes one output: news to `handleNews`, anything else to `outputs`. Returns false at the end. */
  settle(
    outputs: { push(output: Exclude<RelayLegsOutput, RelayNews>): unknown },
    handleNews: (news: RelayNews) => void,
  ): boolean {
    const output = this.#pollOutput();
    if (output === undefined) return false;

    if (output.type === "command" || output.type === "dial" || output.type === "event") {
      outputs.push(output);
    } else {
      handleNews(output);
    }
    return true;
  }

  pollTimeout(): Instant | undefined {
    const due = this.slots.map(({ leg }) => leg.pollTimeout());
    return earliest(...due.filter((at) => at !== undefined));
  }

  #pollOutput(): RelayLegsOutput | undefined {
    const waiting = this.#outputs.shift();
    if (waiting !== undefined) return waiting;

    for (const [relay, slot] of this.slots.entries()) {
      const output = slot.leg.pollOutput();
      if (output === undefined) continue;

      this.#handle(relay, slot, output);
      return this.#pollOutput();
    }
    return undefined;
  }

  #legOf({ connection }: { readonly connection: ConnectionHandle }): RelayLeg | undefined {
    return this.slots.find(({ leg }) => leg.owns(connection))?.leg;
  }

  #handle(relay: number, slot: Slot, output: LegOutput): void {
    const { name } = slot;
    switch (output.type) {
      case "command":
        this.#outputs.push(output);
        return;
      case "ready": {
        const { connection, welcome, newEpoch } = output;
        const { observed } = welcome;
        slot.observed = observed;
        slot.lastFailure = undefined;
        this.#emit({ type: "relay-ready", relay: name, observed, newEpoch });
        this.#outputs.push({ type: "ready", relay, connection, newEpoch });
        return;
      }
      case "lost":
        slot.lastFailure = output.reason;
        this.#emit({ type: "relay-lost", relay: name, reason: output.reason });
        this.#outputs.push({ type: "lost", relay });
        return;
      case "violation":
        this.#emit({ type: "relay-violation", relay: name, reason: output.reason });
        return;
      case "attempt-failed": {
        const { reason, refused } = output;
        slot.lastFailure = reason;
        this.#emit({ type: "relay-attempt-failed", relay: name, reason, refused });
        return;
      }
      case "message":
        this.#handleMessage(relay, slot, output.message);
        return;
      default:
        this.#outputs.push({ ...output, relay });
    }
  }

  #handleMessage(relay: number, slot: Slot, message: LegMessage): void {
    if (message.type === "observed") {
      slot.observed = message.address;
    } else if (message.type === "drain") {
      const { deadlineMs } = message;
      this.#emit({ type: "relay-draining", relay: slot.name, deadlineMs });
    } else {
      this.#outputs.push({ type: "message", relay, message });
    }
  }

  #emit(event: LegEvent): void {
    this.#outputs.push({ type: "event", event });
  }
}
