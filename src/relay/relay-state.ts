/**
 * The relay: who is connected, what is provided, who may talk to whom.
 *
 * Sans-IO. Handshakes, control frames and orders come in; admissions, frames and channels go out.
 * The parts each keep rules of their own: `admission.ts` legs and peers, `registration.ts` what
 * connectors provide, `service-lists.ts` what agents hear of it, `session-openings.ts` and
 * `offers.ts` how a session comes to be, `session-table.ts` how long it lasts, `channel-table.ts`
 * what is forwarded. What is left here:
 *
 * - **A frame that is no message of the protocol ends its leg**; one of a later version does not.
 * - **A step has an end.** What a single input causes at thousands of peers goes out in portions.
 */
import type { StateMachine } from "../base/state-machine.ts";
import { type Instant, instant } from "../base/time.ts";
import type { PolicyTable } from "../policy/engine.ts";
import { PolicyEngine } from "../policy/engine.ts";
import type { IdentityConfig } from "../policy/identity.ts";
import { toldToPeer } from "../protocol/close-codes.ts";
import { decodeLegMessage } from "../protocol/control-codec.ts";
import {
  CONTROL_FRAME_BYTES_BEFORE_ADMISSION_MAX,
  CONTROL_FRAME_BYTES_MAX,
} from "../protocol/limits.ts";
import type { DecodedLegMessage, SessionClose } from "../protocol/messages.ts";
import { Admission } from "./admission.ts";
import { ChannelTable } from "./channel-table.ts";
import { Offers } from "./offers.ts";
import { type Leg, type Peer, PeerTable } from "./peer-table.ts";
import { Registration } from "./registration.ts";
import type { Registry } from "./registry.ts";
import { RelayContext, type Timer } from "./relay-context.ts";
import type {
  RelayEvent,
  RelayInput,
  RelayOutput,
  RelaySettings,
  RelaySources,
  Revocation,
} from "./relay-values.ts";
import { RevocationLog } from "./revocation-log.ts";
import { ServiceLists } from "./service-lists.ts";
import { SessionOpenings } from "./session-openings.ts";
import { SessionTable } from "./session-table.ts";

/** Outputs of one step; below what the driver takes for a machine that feeds itself. */
export const OUTPUTS_PER_STEP_MAX = 2000;
/** Deadlines of one step. */
const TIMERS_PER_STEP_MAX = 1000;

export interface RelayOptions {
  readonly settings: RelaySettings;
  readonly sources: RelaySources;
  readonly registry: Registry;
  readonly policy: PolicyTable;
  readonly identities: IdentityConfig;
  /** As remembered by earlier processes, in order. */
  readonly revocations: readonly Revocation[];
}

export interface RelayFigures {
  readonly legs: number;
  readonly agents: number;
  readonly connectors: number;
  readonly services: number;
  readonly sessions: number;
  readonly channels: number;
}

type LegFrame = Extract<RelayInput, { readonly type: "frame" }>;
type ClosedInput = Extract<RelayInput, { readonly type: "closed" }>;
type Violation = Pick<
  Extract<RelayEvent, { readonly type: "protocol-violation" }>,
  "reason" | "detail"
>;

export class RelayState implements StateMachine<RelayInput, RelayOutput> {
  readonly #context: RelayContext;
  readonly #registry: Registry;
  readonly #peers = new PeerTable();
  readonly #channels: ChannelTable;
  readonly #sessions: SessionTable;
  readonly #offers: Offers;
  readonly #openings: SessionOpenings;
  readonly #lists: ServiceLists;
  readonly #registration: Registration;
  readonly #admission: Admission;
  readonly #revocations: RevocationLog;
  #now: Instant = instant(0);
  #outputsLeft = OUTPUTS_PER_STEP_MAX;

  constructor({ settings, sources, registry, policy, identities, revocations }: RelayOptions) {
    const context = new RelayContext(settings, sources, { policy, identities });
    const peers = this.#peers;
    const channels = new ChannelTable(context);
    const sessions = new SessionTable(context, peers, channels);
    const offers = new Offers(context, channels, sessions);
    const openings = new SessionOpenings(context, { peers, registry, channels, sessions, offers });
    const lists = new ServiceLists(context, registry);
    const log = new RevocationLog(revocations);
    const parts = { peers, registry, channels, sessions, offers, openings, lists };
    const registration = new Registration(context, { ...parts, revocations: log });

    this.#context = context;
    this.#registry = registry;
    this.#channels = channels;
    this.#sessions = sessions;
    this.#offers = offers;
    this.#openings = openings;
    this.#lists = lists;
    this.#revocations = log;
    this.#registration = registration;
    this.#admission = new Admission(context, { ...parts, registration, revocations: log });
  }

  handleInput(input: RelayInput, now: Instant): void {
    this.#beginStep(now);
    switch (input.type) {
      case "handshake":
        this.#admission.handleHandshake(input, now);
        break;
      case "revoke":
        this.#handleRevoke(input, now);
        break;
      case "configure":
        this.#handleConfigure(input, now);
        break;
      case "frame":
      case "closed":
      case "leg-silent":
        this.#handleLegInput(input, now);
        break;
    }
  }

  handleTimeout(now: Instant): void {
    this.#beginStep(now);
    for (let count = 0; count < TIMERS_PER_STEP_MAX; count++) {
      const timer = this.#context.timers.popDue(now);
      if (timer === undefined) return;
      this.#handleTimer(timer, now);
    }
  }

  pollOutput(): RelayOutput | undefined {
    if (this.#outputsLeft === 0) return undefined;

    const output = this.#context.outputs.shift();
    if (output !== undefined) this.#outputsLeft--;
    return output;
  }

  pollTimeout(): Instant | undefined {
    return this.#context.outputs.length > 0 ? this.#now : this.#context.timers.earliest();
  }

  /** The figures of the moment, for metrics and `status`. */
  get figures(): RelayFigures {
    const roles = [...this.#peers.peers.values()]
      .filter(({ leg }) => leg !== undefined)
      .map(({ proven }) => proven.identity.role);
    return {
      legs: this.#peers.legs.size,
      agents: roles.filter((role) => role === "agent").length,
      connectors: roles.filter((role) => role === "connector").length,
      services: this.#registry.size,
      sessions: this.#sessions.size,
      channels: this.#channels.size,
    };
  }

  #beginStep(now: Instant): void {
    this.#now = now;
    this.#outputsLeft = OUTPUTS_PER_STEP_MAX;
  }

  #handleLegInput(
    input: Extract<RelayInput, { readonly type: "frame" | "closed" | "leg-silent" }>,
    now: Instant,
  ): void {
    // A leg that this side ended is forgotten while its last events are on their way.
    const leg = this.#peers.legs.get(input.connection);
    if (leg === undefined) return;

    if (input.type === "closed") this.#handleClosed(leg, input, now);
    else if (input.type === "frame") this.#handleFrame(leg, input, now);
    else if (leg.peer !== undefined) this.#offers.handleSilent(leg.peer);
  }

  #handleTimer(timer: Timer, now: Instant): void {
    switch (timer.type) {
      case "hello":
        this.#violate(timer.leg, { reason: "no-hello", detail: "no hello in time" }, now);
        break;
      case "frames":
        this.#takeWaiting(timer.leg, now);
        break;
      case "lost":
        this.#admission.handleLostTimeout(timer.peer, now);
        break;
      case "ping":
        this.#offers.handlePingTimeout(timer.peer, now);
        break;
      case "offer":
        this.#offers.handleTimeout(timer.connector, timer.request, now);
        break;
      case "connector":
        this.#openings.handleConnectorTimeout(timer.opening, now);
        break;
      case "lease":
        this.#sessions.handleTimeout(timer.session, now);
        break;
      case "failure": {
        const { leg, request, code } = timer.failure;
        if (this.#isLive(leg)) this.#context.fail(leg, request, code);
        break;
      }
      case "lists":
        this.#lists.handleTimeout(now);
        break;
    }
  }

  #handleFrame(leg: Leg, { frame, rttUs }: LegFrame, now: Instant): void {
    leg.rttUs = rttUs;
    switch (leg.pacer.handleFrame(frame, now)) {
      case "take":
        this.#takeFrame(leg, frame, now);
        break;
      case "wait":
        this.#scheduleFrames(leg);
        break;
      case "exceeded":
        this.#exceedRate(leg, now);
        break;
    }
  }

  #takeWaiting(leg: Leg, now: Instant): void {
    leg.frameDeadline = undefined;
    while (this.#isLive(leg)) {
      const frame = leg.pacer.pollFrame(now);
      if (frame === undefined) break;
      this.#takeFrame(leg, frame, now);
    }
    if (!this.#isLive(leg)) return;

    if (leg.pacer.isExceeded(now)) this.#exceedRate(leg, now);
    else this.#scheduleFrames(leg);
  }

  #scheduleFrames(leg: Leg): void {
    const due = leg.pacer.pollTimeout();
    if (due === undefined || leg.frameDeadline !== undefined) return;
    leg.frameDeadline = this.#context.timers.set(due, { type: "frames", leg });
  }

  #exceedRate(leg: Leg, now: Instant): void {
    const identity = leg.proven.identity.uri;
    this.#context.event({ type: "frame-rate-exceeded", identity });
    this.#admission.closeLeg(leg, "LIMIT_EXCEEDED", "too many control frames", now);
  }

  #takeFrame(leg: Leg, frame: Uint8Array, now: Instant): void {
    const { peer } = leg;
    const bytesMax =
      peer === undefined ? CONTROL_FRAME_BYTES_BEFORE_ADMISSION_MAX : CONTROL_FRAME_BYTES_MAX;
    const decoded = decodeLegMessage(frame, bytesMax);
    if (!decoded.ok) {
      this.#violate(leg, decoded.error, now);
    } else if (peer !== undefined && decoded.value.type !== "hello") {
      this.#handleMessage(leg, peer, decoded.value, now);
    } else if (peer === undefined && decoded.value.type === "hello") {
      this.#admission.handleHello(leg, decoded.value, now);
    } else {
      const detail = `${decoded.value.type} out of turn`;
      this.#violate(leg, { reason: "unexpected", detail }, now);
    }
  }

  #handleMessage(leg: Leg, peer: Peer, message: DecodedLegMessage, now: Instant): void {
    this.#offers.handleHeard(peer);
    switch (message.type) {
      case "unknown-request":
        this.#context.fail(leg, message.request, "unsupported");
        break;
      case "invalid-request":
        this.#context.fail(leg, message.request, "invalid");
        break;
      case "session-close":
        this.#handleSessionClose(peer, message);
        break;
      default:
        if (peer.proven.identity.role === "agent") this.#handleOfAgent(leg, peer, message, now);
        else this.#handleOfConnector(leg, peer, message, now);
    }
  }

  #handleOfAgent(leg: Leg, agent: Peer, message: DecodedLegMessage, now: Instant): void {
    if (message.type === "session-open") this.#openings.handleOpen(leg, agent, message, now);
    else this.#passOver(leg, message);
  }

  #handleOfConnector(leg: Leg, connector: Peer, message: DecodedLegMessage, now: Instant): void {
    switch (message.type) {
      case "register":
        this.#registration.handleRegister(leg, connector, message, now);
        break;
      case "session-offer-ok":
        this.#offers.handleOk(connector, message.request, message.channelId, now);
        break;
      case "failed":
        this.#offers.handleFailed(connector, message.request, message.code, now);
        break;
      case "session-closed":
        this.#sessions.handleUsage(connector, message.session, message.flows, message.bytes);
        break;
      default:
        this.#passOver(leg, message);
    }
  }

  /** A request that this role does not answer is as good as unknown; a notice is ignored. */
  #passOver(leg: Leg, message: DecodedLegMessage): void {
    if (!("request" in message) || message.type.endsWith("-ok") || message.type === "failed")
      return;
    this.#context.fail(leg, message.request, "unsupported");
  }

  #handleSessionClose(peer: Peer, { session: id, code, reason }: SessionClose): void {
    const session = this.#sessions.get(id);
    if (session === undefined || (session.agent !== peer && session.connector !== peer)) return;
    this.#sessions.end(session, toldToPeer(code), reason, peer);
  }

  #handleRevoke({ name }: Extract<RelayInput, { readonly type: "revoke" }>, now: Instant): void {
    const revocation = this.#revocations.add(name);
    if (revocation === undefined) return;

    this.#context.push({ type: "remember-revocation", revocation });
    for (const peer of this.#peers.peers.values()) {
      if (peer.proven.identity.role !== "connector") continue;
      this.#context.send(peer, { type: "revoked", ...revocation });
      // Before it registers it is not known what it has seen.
      if (peer.leg?.revocationsTold !== undefined) {
        peer.leg.revocationsTold = revocation.sequence;
      }
    }
    this.#admission.handleRevoked(revocation, now);
  }

  #handleConfigure(
    { policy, identities }: Extract<RelayInput, { readonly type: "configure" }>,
    now: Instant,
  ): void {
    this.#context.policy = new PolicyEngine(policy);
    this.#context.identities = identities;
    this.#admission.handleIdentities(now);
    this.#registration.handlePolicy(now);
  }

  #handleClosed(leg: Leg, { how, detail = "" }: ClosedInput, now: Instant): void {
    if (how === "violation") this.#tellViolation(leg, { reason: "framing", detail });
    this.#admission.handleClosed(leg, how === "violation" ? "lost" : how, now);
  }

  #violate(leg: Leg, violation: Violation, now: Instant): void {
    this.#tellViolation(leg, violation);
    this.#admission.closeLeg(leg, "PROTOCOL_VIOLATION", violation.reason, now);
  }

  #tellViolation({ proven }: Leg, { reason, detail }: Violation): void {
    const identity = proven.identity.uri;
    this.#context.event({ type: "protocol-violation", identity, reason, detail });
  }

  #isLive(leg: Leg): boolean {
    return this.#peers.legs.get(leg.connection) === leg;
  }
}
