/**
 * From `session-open` to a session: which connector gets the offer, and what the agent hears.
 *
 * - **What is denied and what does not exist look the same**: one code, one text, at a multiple of
 *   5 ms after the question.
 * - **Opening what exists is idempotent**: it renews the lease and repeats the answer.
 * - **A connector that does not take the offer is passed over**, twice in the same request; so is one
 *   that has too many offers to answer.
 * - **A named connector is waited for**: after a restart of the relay it may be seconds behind.
 */
import type { Deadline } from "../base/deadlines.ts";
import { after, type Instant, instant, seconds } from "../base/time.ts";
import type { FailureCode } from "../protocol/failure-codes.ts";
import type { SessionOpen } from "../protocol/messages.ts";
import type { Channel, ChannelTable } from "./channel-table.ts";
import { describePeer, type OfferOutcome, type Offers } from "./offers.ts";
import { type Leg, type Peer, type PeerTable, roundTrip } from "./peer-table.ts";
import type { Registry } from "./registry.ts";
import type { RelayContext } from "./relay-context.ts";
import type { Session, SessionTable } from "./session-table.ts";

/** `docs/protocol.md` §5: the first offer, and twice the next connector. */
export const OFFERS_PER_OPENING_MAX = 3;
export const CONNECTOR_WAIT = seconds(5);
/** `docs/protocol.md` §8: `not-available` is answered at a multiple of it. */
export const ANSWER_GRID_MS = 5;
/** Requests for one service that share an offer. */
export const WAITERS_MAX = 8;

export interface Opening {
  readonly key: string;
  readonly agent: Peer;
  readonly message: SessionOpen;
  readonly waiters: Waiter[];
  readonly tried: Set<Peer>;
  /** While it waits for the named connector. */
  deadline: Deadline | undefined;
  /** The agent is gone: no offer is made for it and nothing is answered. */
  void: boolean;
}

interface Waiter {
  readonly leg: Leg;
  readonly request: number;
  readonly askedAt: Instant;
}

/** What was offered; `session` is its id. */
type Terms = Pick<Session, "service" | "agent" | "connector" | "channel"> & {
  readonly session: string;
};

interface Parts {
  readonly peers: PeerTable;
  readonly registry: Registry;
  readonly channels: ChannelTable;
  readonly sessions: SessionTable;
  readonly offers: Offers;
}

export class SessionOpenings {
  readonly #context: RelayContext;
  readonly #parts: Parts;
  readonly #waiting = new Set<Opening>();
  /** Ids of sessions that agents brought along and that are being offered. */
  readonly #heldIds = new Set<string>();

  constructor(context: RelayContext, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  handleOpen(leg: Leg, agent: Peer, message: SessionOpen, now: Instant): void {
    const { service, request } = message;
    const { spki, identity } = agent.proven;
    const { effect: decision, rule } = this.#context.policy.decide(agent.proven, service);
    const decided = { type: "decided", identity: identity.uri, spki, service } as const;
    this.#context.event({ ...decided, decision, rule });

    const waiter: Waiter = { leg, request, askedAt: now };
    const isKnown = this.#parts.registry.portsOf(service) !== undefined;
    if (decision === "deny" || (!isKnown && message.connector === undefined)) {
      this.#fail(waiter, agent, service, "not-available", now);
    } else {
      this.#openAllowed(waiter, agent, message, now);
    }
  }

  /** A connector that was waited for is there. */
  handleRegistered(connector: Peer, now: Instant): void {
    for (const opening of [...this.#waiting]) {
      const isNamed = opening.message.connector === connector.instance;
      if (!isNamed || !this.#candidates(opening).includes(connector)) continue;

      this.#stopWaiting(opening);
      this.#proceed(opening, "no-connector", now);
    }
  }

  handleConnectorTimeout(opening: Opening, now: Instant): void {
    this.#stopWaiting(opening);
    this.#refuse(opening, "no-connector", now);
  }

  /** What an agent asked on a leg that is gone is void; it asks again. */
  handleAgentLegGone(agent: Peer): void {
    for (const opening of agent.openings.values()) opening.waiters.length = 0;
  }

  /** The peer is no more: nothing is opened for it. */
  forget(agent: Peer): void {
    for (const opening of agent.openings.values()) {
      opening.void = true;
      this.#stopWaiting(opening);
    }
    agent.openings.clear();
  }

  /** Tells connectors of the key that an agent has since they last heard of it. */
  repeatOffers(peer: Peer, now: Instant): void {
    for (const session of peer.sessions) {
      const { agent, connector } = session;
      if (session.agentSpki !== agent.proven.spki && connector.leg !== undefined) {
        this.#repeatOffer(session, now);
      }
    }
  }

  #openAllowed(waiter: Waiter, agent: Peer, message: SessionOpen, now: Instant): void {
    const existing = this.#existing(agent, message);
    if (existing !== undefined && !existing.channel.closed) {
      this.#renew(existing, now);
      this.#answer(waiter, existing, now);
      return;
    }

    const { service, connector = "", avoid } = message;
    const key = [service, connector, ...avoid].join(" ");
    const joined = agent.openings.get(key);
    const { sessionsPerAgent } = this.#context.settings.limits;
    const isFull = agent.sessions.size + agent.openings.size >= sessionsPerAgent;
    if (joined !== undefined && joined.waiters.length < WAITERS_MAX) {
      joined.waiters.push(waiter);
    } else if (joined !== undefined || (isFull && existing === undefined)) {
      this.#fail(waiter, agent, service, "limit-exceeded", now);
    } else {
      const start = { key, agent, message, waiters: [waiter], tried: new Set<Peer>() };
      const opening: Opening = { ...start, deadline: undefined, void: false };
      agent.openings.set(key, opening);
      this.#proceed(opening, "no-connector", now);
    }
  }

  /** Returns the session that the request is about, if its connector is there. */
  #existing(agent: Peer, { service, connector: named, avoid }: SessionOpen): Session | undefined {
    for (const session of agent.sessions) {
      const { leg, instance } = session.connector;
      if (session.service !== service || leg === undefined) continue;
      if (named === undefined ? !avoid.includes(instance) : named === instance) return session;
    }
    return undefined;
  }

  /** Offers to the next connector, waits for the named one, or gives up with `code`. */
  #proceed(opening: Opening, code: FailureCode, now: Instant): void {
    const { agent, message, tried } = opening;
    const left = tried.size < OFFERS_PER_OPENING_MAX ? this.#candidates(opening) : [];
    const free = left.filter((peer) => this.#parts.offers.hasRoom(peer, agent));
    const connector = this.#choose(opening, free);
    if (connector !== undefined) {
      const channel = this.#parts.channels.reserve(agent, connector, message.channelId);
      if (channel === undefined) this.#refuse(opening, "limit-exceeded", now);
      else this.#offer(opening, connector, channel, now);
    } else if (left.length > 0) {
      this.#refuse(opening, "limit-exceeded", now);
    } else if (message.connector !== undefined && tried.size === 0) {
      this.#waiting.add(opening);
      const at = after(now, CONNECTOR_WAIT);
      opening.deadline = this.#context.timers.set(at, { type: "connector", opening });
    } else {
      this.#refuse(opening, code, now);
    }
  }

  #offer(opening: Opening, connector: Peer, channel: Channel, now: Instant): void {
    const { agent, message, tried } = opening;
    tried.add(connector);
    const session = this.#sessionId(opening, connector);
    const terms = { session, service: message.service, agent, connector, channel };
    this.#parts.offers.make(
      {
        ...terms,
        settle: (outcome, at) => {
          this.#heldIds.delete(session);
          this.#settle(opening, terms, outcome, at);
        },
      },
      now,
    );
  }

  #settle(opening: Opening, terms: Terms, outcome: OfferOutcome, now: Instant): void {
    // With the agent its channels went, so such an offer can only have failed.
    if (opening.void) return;
    if (outcome.type === "failed") {
      this.#proceed(opening, outcome.code, now);
      return;
    }
    if (!this.#parts.sessions.isAllowed(terms)) {
      this.#withdraw(terms);
      this.#proceed(opening, "not-available", now);
      return;
    }

    const session = this.#establish(terms, now);
    opening.agent.openings.delete(opening.key);
    for (const waiter of opening.waiters) this.#answer(waiter, session, now);
  }

  #establish(terms: Terms, now: Instant): Session {
    const { session: id, ...rest } = terms;
    const { agent, service, connector, channel } = rest;
    const existing = this.#parts.sessions.find(agent, service, connector);
    if (existing === undefined) return this.#parts.sessions.open({ id, ...rest }, now);

    // Its channel had been closed, or two requests met here: one session, one use of the channel.
    if (existing.id !== id) {
      const reason = "the session exists by another name";
      const close = { type: "session-close", session: id, code: "NO_ERROR", reason } as const;
      this.#context.send(connector, close);
    }
    this.#parts.channels.release(existing.channel);
    existing.channel = channel;
    this.#parts.sessions.extend(existing, now);
    return existing;
  }

  /** Policy has changed while the connector was asked. */
  #withdraw({ session, connector, channel }: Terms): void {
    const reason = "policy does not allow it";
    this.#context.send(connector, { type: "session-close", session, code: "FORBIDDEN", reason });
    this.#parts.channels.release(channel);
  }

  #repeatOffer(session: Session, now: Instant): void {
    const { id, agent, connector, service } = session;
    const clientId = session.channel.agentClientId;
    const channel = this.#parts.channels.reserve(agent, connector, clientId);
    if (channel === undefined) return;

    const { spki } = agent.proven;
    const settle = (outcome: OfferOutcome, at: Instant) => {
      if (outcome.type === "failed") {
        const reason = "the connector did not take the agent's other key";
        this.#parts.sessions.end(session, "NO_ERROR", reason);
        return;
      }
      if (this.#parts.sessions.get(id) !== session) {
        this.#parts.channels.release(channel);
        return;
      }
      this.#parts.channels.release(session.channel);
      session.channel = channel;
      session.agentSpki = spki;
      this.#parts.sessions.extend(session, at);
    };
    this.#parts.offers.make({ session: id, service, agent, connector, channel, settle }, now);
  }

  /** A session that the agent held keeps its id, unless somebody else has it. */
  #sessionId({ agent, message }: Opening, connector: Peer): string {
    const existing = this.#parts.sessions.find(agent, message.service, connector);
    if (existing !== undefined) return existing.id;

    const { session: held } = message;
    const { sessions } = this.#parts;
    const isFree =
      held !== undefined &&
      message.connector !== undefined &&
      sessions.get(held) === undefined &&
      !sessions.hasEnded(held) &&
      !this.#heldIds.has(held);
    if (!isFree) return this.#context.sources.randomHex(16);

    this.#heldIds.add(held);
    return held;
  }

  #candidates({ agent, message, tried }: Opening): readonly Peer[] {
    const { service, connector: named, avoid, channelId } = message;
    // Another request of this agent has made a channel of the id: it may not lead to two connectors.
    const isTaken = [...agent.channels.values()].some((it) => it.agentClientId === channelId);
    return this.#parts.registry
      .providersOf(service)
      .map(({ key }) => this.#parts.peers.peers.get(key))
      .filter((peer) => peer !== undefined)
      .filter(
        (peer) =>
          peer.leg !== undefined &&
          peer.stall === undefined &&
          !tried.has(peer) &&
          !avoid.includes(peer.instance) &&
          (!isTaken || agent.channels.has(peer.key)) &&
          (named === undefined || named === peer.instance) &&
          this.#parts.sessions.isAllowed({ agent, connector: peer, service }),
      );
  }

  /** One that the agent has a channel with needs no other tunnel; else by weight; mute ones last. */
  #choose(opening: Opening, all: readonly Peer[]): Peer | undefined {
    const speaking = all.filter(({ isMute }) => !isMute);
    const candidates = speaking.length > 0 ? speaking : all;
    const near = candidates.find(({ key }) => opening.agent.channels.has(key));
    if (near !== undefined) return near;

    const weights = new Map(
      this.#parts.registry
        .providersOf(opening.message.service)
        .map(({ key, weight }) => [key, weight] as const),
    );
    const weightOf = ({ key }: Peer) => weights.get(key) ?? 0;
    const total = candidates.reduce((sum, peer) => sum + weightOf(peer), 0);
    let mark = this.#context.sources.randomUnit() * total;
    for (const peer of candidates) {
      mark -= weightOf(peer);
      if (mark < 0) return peer;
    }
    return candidates.at(-1);
  }

  #renew(session: Session, now: Instant): void {
    const leaseMs = this.#parts.sessions.extend(session, now);
    this.#context.send(session.connector, { type: "session-renew", session: session.id, leaseMs });
  }

  #answer({ leg, request }: Waiter, session: Session, now: Instant): void {
    const { id, service, connector, channel } = session;
    const { relay, channelRateBps: rate } = this.#context.settings;
    this.#context.sendOn(leg, {
      type: "session-open-ok",
      request,
      session: id,
      service,
      connector: describePeer(connector),
      channelId: channel.agentClientId,
      paths: [{ relay, channel: channel.agentRelayId, rate, ...roundTrip(leg, connector.leg) }],
      leaseMs: Math.max(0, Math.floor(session.expiresAt - now)),
    });
  }

  #refuse(opening: Opening, code: FailureCode, now: Instant): void {
    const { agent, key, message, waiters } = opening;
    agent.openings.delete(key);
    const told = code === "unsupported" || code === "invalid" ? "refused" : code;
    for (const waiter of waiters) this.#fail(waiter, agent, message.service, told, now);
  }

  #fail(waiter: Waiter, agent: Peer, service: string, code: FailureCode, now: Instant): void {
    const { leg, request, askedAt } = waiter;
    const identity = agent.proven.identity.uri;
    this.#context.event({ type: "session-refused", identity, service, code });
    if (code !== "not-available") {
      this.#context.fail(leg, request, code);
      return;
    }

    const steps = Math.floor((now - askedAt) / ANSWER_GRID_MS) + 1;
    const at = instant(askedAt + steps * ANSWER_GRID_MS);
    this.#context.timers.set(at, { type: "failure", failure: { leg, request, code } });
  }

  #stopWaiting(opening: Opening): void {
    this.#waiting.delete(opening);
    this.#context.timers.cancel(opening.deadline);
    opening.deadline = undefined;
  }
}
