/**
 * The agent: legs to its relays, what they let it use, sessions and tunnels.
 *
 * This machine routes: a leg's life is `leg/relay-leg.ts`, the list of services `service-catalog.ts`,
 * when a session is opened and ended `session-book.ts`, who a connector is `tunnel-book.ts`. Its own
 * rules are few:
 *
 * - **A service exists for this agent when any relay lists it, and while it is in use.** A relay that
 *   is lost keeps its list until it tells another.
 * - **After each input everything inside is settled**: what a tunnel reports reaches the sessions in
 *   the same step.
 */
import type { StateMachine } from "../base/state-machine.ts";
import { earliest, type Instant } from "../base/time.ts";
import type {
  ClosedEvent,
  ConnectionHandle,
  ControlEvent,
  EndpointCommand,
  FlowEvent,
  HandshakeEvent,
  LegSilentEvent,
  RandomHex,
  TunnelSilentEvent,
} from "../leg/endpoint-port.ts";
import type { JudgePeer } from "../leg/judge.ts";
import {
  type ConfiguredRelay,
  newRelaySlot,
  RelayLegs,
  type RelayNews,
  type RelaySlot,
} from "../leg/relay-legs.ts";
import type { LegMessage, OfferedService } from "../protocol/messages.ts";
import type { AgentEvent } from "./agent-event.ts";
import type { Relays } from "./relays.ts";
import { ServiceCatalog } from "./service-catalog.ts";
import { SessionBook } from "./session-book.ts";
import { TunnelBook } from "./tunnel-book.ts";
import { PROTOCOL_VIOLATION } from "./tunnel-report.ts";

export interface AgentStateOptions {
  readonly instance: string;
  readonly software: string;
  readonly relays: readonly ConfiguredRelay[];
  readonly judgeConnector: JudgePeer;
  readonly issueConnection: () => ConnectionHandle;
  readonly issueChannelId: () => string;
  readonly randomHex: RandomHex;
  readonly random: () => number;
  readonly servicesMax: number;
  readonly sessionsMax: number;
  readonly warm: readonly string[];
}

export type AgentInput =
  | { readonly type: "start" }
  /** A flow, or a person, wants a service. */
  | { readonly type: "wanted"; readonly service: string }
  /** The judges have changed: whoever is connected is judged again. */
  | { readonly type: "identities" }
  | HandshakeEvent
  | ControlEvent
  | ClosedEvent
  | LegSilentEvent
  | TunnelSilentEvent
  | FlowEvent;

export type AgentOutput =
  | { readonly type: "command"; readonly command: EndpointCommand }
  | {
      readonly type: "dial";
      readonly relay: number;
      readonly connection: ConnectionHandle;
      readonly attempt: number;
    }
  /** All services there are for this agent; replaces the last list. */
  | { readonly type: "services"; readonly services: readonly OfferedService[] }
  | { readonly type: "warm"; readonly services: readonly string[] }
  | { readonly type: "event"; readonly event: AgentEvent };

/** A relay may withdraw every service at once: what it causes goes out in portions. */
const OUTPUTS_PER_STEP_MAX = 2000;

/** Features of this version: none yet that both sides would have to agree on. */
const FEATURES: readonly string[] = [];

export class AgentState implements StateMachine<AgentInput, AgentOutput> {
  readonly #legs: RelayLegs<AgentRelaySlot>;
  readonly #servicesMax: number;
  readonly #tunnels: TunnelBook;
  readonly #sessions: SessionBook;
  readonly #outputs: AgentOutput[] = [];
  /** The list that was given out last. */
  #published: ReadonlyMap<string, OfferedService> = new Map();
  /** Those in it that are in use and listed by no relay. */
  #unlisted: readonly string[] = [];
  #outputsLeft = OUTPUTS_PER_STEP_MAX;
  #now: Instant;

  constructor(options: AgentStateOptions, now: Instant) {
    const { relays, servicesMax } = options;
    const withFeatures = { ...options, features: FEATURES };
    this.#servicesMax = servicesMax;
    this.#now = now;
    this.#legs = new RelayLegs(
      relays.map((relay) => ({
        ...newRelaySlot(relay, withFeatures, now),
        catalog: new ServiceCatalog(servicesMax),
      })),
    );
    this.#tunnels = new TunnelBook(withFeatures);
    this.#sessions = new SessionBook(options, this.#relayView(), this.#tunnels);
  }

  /** For `status`: a view that changes with the machine, not a copy. */
  get view(): AgentView {
    return { relays: this.#legs.slots, sessions: this.#sessions };
  }

  handleInput(input: AgentInput, now: Instant): void {
    this.#beginStep(now);
    switch (input.type) {
      case "start":
        this.#legs.handleStart(now);
        break;
      case "wanted":
        this.#sessions.want(input.service, now);
        break;
      case "identities":
        this.#tunnels.handleIdentities();
        this.#legs.handleIdentities(now);
        break;
      case "handshake":
        if (input.kind === "tunnel") this.#tunnels.handleHandshake(input, now);
        else this.#legs.handleHandshake(input);
        break;
      case "control":
        this.#tunnels.handleControl(input, now);
        this.#legs.handleControl(input, now);
        break;
      case "closed":
        this.#tunnels.handleClosed(input);
        this.#legs.handleClosed(input, now);
        break;
      case "leg-silent":
        this.#legs.handleLegSilent(input, now);
        break;
      case "tunnel-silent":
        this.#tunnels.handleSilent(input, now);
        break;
      case "flow": {
        const pair = this.#tunnels.pairOf(input.tunnel);
        if (pair !== undefined) this.#sessions.handleFlow(pair, input, now);
        break;
      }
    }
    this.#settle(now);
  }

  handleTimeout(now: Instant): void {
    this.#beginStep(now);
    this.#legs.handleTimeout(now);
    this.#tunnels.handleTimeout(now);
    this.#settle(now);
    this.#sessions.handleTimeout(now);
    this.#settle(now);
  }

  pollOutput(): AgentOutput | undefined {
    if (this.#outputsLeft === 0) return undefined;

    const output = this.#outputs.shift();
    if (output !== undefined) this.#outputsLeft -= 1;
    return output;
  }

  pollTimeout(): Instant | undefined {
    if (this.#outputs.length > 0) return this.#now;
    const parts = [this.#legs, this.#tunnels, this.#sessions];
    const due = parts.map((part) => part.pollTimeout());
    return earliest(...due.filter((at) => at !== undefined));
  }

  #relayView(): Relays {
    const { slots } = this.#legs;
    return {
      count: slots.length,
      leg: (relay) => slots[relay]?.leg.connection,
      lists: (relay, service) => slots[relay]?.catalog.has(service) ?? false,
      request: (relay, body, now) => slots[relay]?.leg.request(body, now),
      send: (relay, message) => slots[relay]?.leg.send(message),
    };
  }

  #beginStep(now: Instant): void {
    this.#now = now;
    this.#outputsLeft = OUTPUTS_PER_STEP_MAX;
  }

  /**
   * Passes on what the parts have to say until none has anything left. One thing at a time, so that
   * commands leave in the order of their causes: a path moves to a new leg before the old one ends.
   */
  #settle(now: Instant): void {
    while (this.#settleTunnels(now) || this.#settleSessions() || this.#settleLegs(now));

    if (this.#unlisted.some((service) => !this.#sessions.holds(service))) {
      this.#sessions.handleCatalog(now);
      this.#publish();
    }
  }

  #settleLegs(now: Instant): boolean {
    return this.#legs.settle(this.#outputs, (news) => this.#handleNews(news, now));
  }

  #settleSessions(): boolean {
    const output = this.#sessions.pollOutput();
    if (output !== undefined) this.#outputs.push(output);
    return output !== undefined;
  }

  #settleTunnels(now: Instant): boolean {
    const command = this.#tunnels.pollCommand();
    if (command !== undefined) {
      this.#outputs.push({ type: "command", command });
      return true;
    }
    const report = this.#tunnels.pollReport();
    if (report === undefined) return false;

    if (report.type === "silent") {
      const { pair, silent } = report;
      this.#emit({ type: "tunnel-silent", peer: pair.identity, silent });
    } else if (report.type === "pair-lost" && report.failure.code === PROTOCOL_VIOLATION) {
      const { pair, failure } = report;
      this.#emit({ type: "tunnel-violation", peer: pair.identity, reason: failure.reason });
    }
    this.#sessions.handleReport(report, now);
    return true;
  }

  #handleNews(news: RelayNews, now: Instant): void {
    const { relay } = news;
    switch (news.type) {
      case "ready":
        this.#legs.slots[relay]?.catalog.handleNewLeg();
        if (!news.newEpoch) this.#tunnels.handleNewLeg(relay, news.connection);
        this.#sessions.handleRelayReady(relay, news.newEpoch, now);
        return;
      case "lost":
        return;
      case "answered":
        this.#sessions.handleAnswer(relay, news.request, news.answer, now);
        return;
      case "unanswered":
        this.#sessions.handleUnanswered(relay, news.request, news.reason, now);
        return;
      case "late-answer":
        this.#sessions.handleLateAnswer(relay, news.answer);
        return;
      case "message":
        this.#handleMessage(relay, news.message, now);
        return;
    }
  }

  #handleMessage(relay: number, message: LegMessage, now: Instant): void {
    switch (message.type) {
      case "services":
        this.#handleServices(relay, message, now);
        return;
      case "session-renew":
        this.#sessions.handleRenew(relay, message.session, message.leaseMs, now);
        return;
      case "session-close":
        this.#sessions.handleClose(relay, message, now);
        return;
      default:
        return;
    }
  }

  #handleServices(relay: number, message: Extract<LegMessage, { type: "services" }>, now: Instant) {
    const slot = this.#legs.slots[relay];
    if (slot === undefined) return;
    const outcome = slot.catalog.handle(message);
    if (outcome === "gap") slot.leg.reconnect("a part of the list of services is missing", now);
    if (outcome !== "applied") return;

    const { leftOut } = slot.catalog;
    if (leftOut > 0) this.#emit({ type: "services-left-out", relay: slot.name, count: leftOut });
    this.#sessions.handleCatalog(now);
    this.#publish();
  }

  #publish(): void {
    this.#published = this.#union();
    this.#unlisted = [...this.#published.keys()].filter((name) => !this.#isListed(name));
    this.#outputs.push({ type: "services", services: [...this.#published.values()] });
  }

  /** What any relay lists, and what is still in use. */
  #union(): ReadonlyMap<string, OfferedService> {
    const services = new Map(
      [...this.#published].filter(([name]) => this.#isListed(name) || this.#sessions.holds(name)),
    );
    for (const { catalog } of this.#legs.slots) {
      for (const service of catalog.services) {
        const full = services.size >= this.#servicesMax && !services.has(service.name);
        if (!full) services.set(service.name, service);
      }
    }
    return services;
  }

  #isListed(service: string): boolean {
    return this.#legs.slots.some(({ catalog }) => catalog.has(service));
  }

  #emit(event: AgentEvent): void {
    this.#outputs.push({ type: "event", event });
  }
}

export interface AgentView {
  readonly relays: readonly Readonly<AgentRelaySlot>[];
  readonly sessions: Pick<SessionBook, "accesses">;
}

interface AgentRelaySlot extends RelaySlot {
  readonly catalog: ServiceCatalog;
}
