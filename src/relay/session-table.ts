/**
 * Sessions in force and their leases.
 *
 * - **A session outlives legs.** It ends by an order, by its lease, or with both legs gone for too
 *   long.
 * - **A lease never passes either certificate's end.** At half of it policy is judged again and both
 *   sides are told of the next one; while a leg is missing nothing is renewed.
 * - **Whoever ends a session, the other side hears of it**: the connector as an order, the agent as
 *   news.
 */
import type { Deadline } from "../base/deadlines.ts";
import { type Instant, instant } from "../base/time.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import type { Channel, ChannelTable } from "./channel-table.ts";
import type { Peer, PeerTable } from "./peer-table.ts";
import type { RelayContext } from "./relay-context.ts";

export interface Session {
  readonly id: string;
  readonly service: string;
  readonly agent: Peer;
  readonly connector: Peer;
  channel: Channel;
  /** The key of the agent's certificate as the connector knows it. */
  agentSpki: string;
  expiresAt: Instant;
  renewAt: Instant;
  deadline: Deadline | undefined;
}

/** What is remembered of a session that ended: its last report, and an id not to be taken again. */
interface Ended {
  readonly service: string;
  readonly identity: string;
  readonly connector: string;
}

/** Ended sessions that are remembered; a report that comes later than so many others is not attributed. */
export const ENDED_SESSIONS_MAX = 10_000;

/** A lease that would grow by less is left to run out: a certificate is about to end it. */
const LEASE_GAIN_MIN_MS = 1000;

export class SessionTable {
  readonly #context: RelayContext;
  readonly #peers: PeerTable;
  readonly #channels: ChannelTable;
  readonly #sessions = new Map<string, Session>();
  readonly #ended = new Map<string, Ended>();

  constructor(context: RelayContext, peers: PeerTable, channels: ChannelTable) {
    this.#context = context;
    this.#peers = peers;
    this.#channels = channels;
  }

  get size(): number {
    return this.#sessions.size;
  }

  all(): IterableIterator<Session> {
    return this.#sessions.values();
  }

  get(id: string): Session | undefined {
    return this.#sessions.get(id);
  }

  hasEnded(id: string): boolean {
    return this.#ended.has(id);
  }

  find(agent: Peer, service: string, connector: Peer): Session | undefined {
    for (const session of agent.sessions) {
      if (session.service === service && session.connector === connector) return session;
    }
    return undefined;
  }

  /** Returns how long a session of these two may last from here on. */
  leaseMs(agent: Peer, connector: Peer, now: Instant): number {
    const end = Math.min(agent.expiresAt, connector.expiresAt);
    return Math.max(0, Math.floor(Math.min(this.#context.settings.leaseMs, end - now)));
  }

  /** Puts a session in force that the connector took; its channel has been reserved for it. */
  open(
    session: Pick<Session, "id" | "service" | "agent" | "connector" | "channel">,
    now: Instant,
  ): Session {
    const agentSpki = session.agent.proven.spki;
    const opened = { ...session, agentSpki, expiresAt: now, renewAt: now, deadline: undefined };
    this.#sessions.set(opened.id, opened);
    opened.agent.sessions.add(opened);
    opened.connector.sessions.add(opened);
    this.extend(opened, now);
    this.#context.event({
      type: "session-up",
      session: opened.id,
      identity: opened.agent.proven.identity.uri,
      connector: opened.connector.proven.identity.uri,
      service: opened.service,
    });
    return opened;
  }

  /** Starts a lease of full length and returns it in milliseconds. */
  extend(session: Session, now: Instant): number {
    const leaseMs = this.leaseMs(session.agent, session.connector, now);
    session.expiresAt = instant(now + leaseMs);
    session.renewAt = instant(now + leaseMs / 2);
    this.#schedule(session, session.renewAt);
    return leaseMs;
  }

  /** The lease is at its half or at its end. */
  handleTimeout(session: Session, now: Instant): void {
    if (now >= session.expiresAt) this.end(session, "IDLE", "the lease ran out");
    else this.renewIfDue(session, now);
  }

  /** Renews a session past the half of its lease, if both legs are there to be told. */
  renewIfDue(session: Session, now: Instant): void {
    const { agent, connector } = session;
    if (!this.isAllowed(session)) {
      this.end(session, "FORBIDDEN", "policy does not allow it");
      return;
    }

    const gain = now + this.leaseMs(agent, connector, now) - session.expiresAt;
    const isTold = agent.leg !== undefined && connector.leg !== undefined;
    if (now < session.renewAt) this.#schedule(session, session.renewAt);
    else if (isTold && gain >= LEASE_GAIN_MIN_MS) this.renew(session, now);
    else this.#schedule(session, session.expiresAt);
  }

  renew(session: Session, now: Instant): void {
    const leaseMs = this.extend(session, now);
    const message = { type: "session-renew", session: session.id, leaseMs } as const;
    this.#context.send(session.agent, message);
    this.#context.send(session.connector, message);
    this.#context.event({ type: "session-renewed", session: session.id });
  }

  /** Whether policy lets the agent use the service and the connector provide it. */
  isAllowed({ agent, connector, service }: Pick<Session, "agent" | "connector" | "service">) {
    const { policy } = this.#context;
    return [agent, connector].every(
      ({ proven }) => policy.decide(proven, service).effect === "allow",
    );
  }

  /** @param by is the side that ended it and needs not be told. */
  end(session: Session, code: CloseCodeName, reason: string, by?: Peer): void {
    if (!this.#sessions.delete(session.id)) return;

    const { id, service, agent, connector } = session;
    this.#context.timers.cancel(session.deadline);
    agent.sessions.delete(session);
    connector.sessions.delete(session);
    for (const peer of [connector, agent]) {
      if (peer !== by) {
        this.#context.send(peer, { type: "session-close", session: id, code, reason });
      }
    }
    this.#channels.release(session.channel);
    for (const peer of [connector, agent]) this.#peers.removeIfGone(peer);

    const identity = agent.proven.identity.uri;
    this.#remember(id, { service, identity, connector: connector.key });
    this.#context.event({ type: "session-down", session: id, identity, service, code, reason });
  }

  /** A connector's last word on a session: how much it carried. */
  handleUsage(from: Peer, id: string, flows: number, bytes: number): void {
    const session = this.#sessions.get(id);
    const known =
      session === undefined
        ? this.#ended.get(id)
        : {
            service: session.service,
            identity: session.agent.proven.identity.uri,
            connector: session.connector.key,
          };
    if (known === undefined || known.connector !== from.key) return;

    const { service, identity } = known;
    this.#context.event({ type: "session-usage", session: id, identity, service, flows, bytes });
  }

  #schedule(session: Session, at: Instant): void {
    this.#context.timers.cancel(session.deadline);
    session.deadline = this.#context.timers.set(at, { type: "lease", session });
  }

  #remember(id: string, ended: Ended): void {
    this.#ended.set(id, ended);
    if (this.#ended.size <= ENDED_SESSIONS_MAX) return;
    for (const oldest of this.#ended.keys()) {
      this.#ended.delete(oldest);
      return;
    }
  }
}
