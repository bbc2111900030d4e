/**
 * Which agent may use what here, now: sessions, the tunnels they allow, the services granted on them.
 *
 * - **Three things together allow a service**: the leaf of this very tunnel grants it, a session of
 *   this pair with that leaf's key has not ended, and the connector provides it. Every other case is
 *   `not-available`, in the same words.
 * - **A tunnel needs a session first**: it comes over a pair that has one, from the leaf with that
 *   session's key, and proves the identity that the session names.
 * - **When the last session of a service ends, its flows are cut in the same step.**
 * - **`FORBIDDEN` and `REVOKED` from any relay** end every session of that key and service.
 * - **A pair without sessions is forgotten** after {@link PAIR_LINGER}, with its tunnel and channels,
 *   and sooner where another needs its place: there are never more pairs than sessions may be.
 */

import { after, type Duration, type Instant, isDue, ms, seconds } from "../base/time.ts";
import { describeClose, isViolation } from "../leg/closing.ts";
import {
  type ClosedEvent,
  type ConnectionHandle,
  type EndpointCommand,
  FLOW_SESSION_ENDED,
  type FlowEvent,
  type HandshakeEvent,
  type PairId,
  type RandomHex,
} from "../leg/endpoint-port.ts";
import type { JudgePeer } from "../leg/judge.ts";
import { agentPacer } from "../leg/paced-frames.ts";
import { movedTo, pathOf, type RelayedPath } from "../leg/relayed-path.ts";
import { CandidateExchange } from "../p2p/candidate-exchange.ts";
import type { LeafInfo, ProvenPeer } from "../policy/identity.ts";
import { CloseCode, type CloseCodeName } from "../protocol/close-codes.ts";
import { encodeControl } from "../protocol/control-codec.ts";
import type { SessionOffer } from "../protocol/messages.ts";
import {
  type AgentPair,
  type ConnectorTunnel,
  hasSession,
  NO_USAGE,
  newPair,
  pairKey,
  type Session,
  type TunnelOfPair,
} from "./agent-pair.ts";
import { obstacleTo, type PeerTest, proveAgent, type Refusal, refusalOf } from "./agent-proof.ts";
import type { ConnectorEvent } from "./connector-event.ts";

/** As long as a lost leg's channels stay suspended (`docs/protocol.md`, lifetimes). */
export const PAIR_LINGER: Duration = seconds(120);
/** `docs/protocol.md`, lifetimes: for a relay with another epoch. */
export const CONFIRM_WITHIN: Duration = seconds(120);

export interface AccessTableOptions {
  readonly judgeAgent: JudgePeer;
  readonly issueChannelId: () => string;
  readonly randomHex: RandomHex;
  readonly sessionsMax: number;
}

export class AccessTable {
  readonly #options: AccessTableOptions;
  readonly #pairs = new Map<string, AgentPair>();
  readonly #byId = new Map<PairId, AgentPair>();
  /** Until the data plane has told their ends: those of the flows that they cut come before. */
  readonly #byTunnel = new Map<ConnectionHandle, AgentPair>();
  readonly #sessions = new Map<string, Session>();
  /** Pairs without a session, the one that is for longest first. */
  readonly #lingering = new Set<AgentPair>();
  readonly #commands: EndpointCommand[] = [];
  readonly #events: ConnectorEvent[] = [];
  readonly #ended: Session[] = [];
  #pairsIssued = 0;
  /** No deadline is earlier; scanned for only when it comes, as there may be 65,536 sessions. */
  #wakeAt: Instant | undefined;

  constructor(options: AccessTableOptions) {
    this.#options = options;
  }

  get sessions(): Iterable<Session> {
    return this.#sessions.values();
  }

  /** Whether one more session may be held. */
  get hasRoom(): boolean {
    return this.#sessions.size < this.#options.sessionsMax;
  }

  holds(relay: number, session: string): boolean {
    return this.#sessions.has(keyOf(relay, session));
  }

  /** Ids of the sessions that `relay` gave, the latest first. */
  sessionsOf(relay: number): string[] {
    return [...this.#sessions.values()]
      .filter((session) => session.relay === relay)
      .map(({ id }) => id)
      .reverse();
  }

  /** Takes an offer that was found acceptable and returns the channel id that leads to this side. */
  accept(relay: number, leg: ConnectionHandle, offer: SessionOffer, now: Instant): string {
    const key = pairKey(offer.agent);
    const known = this.#sessions.get(keyOf(relay, offer.session));
    if (known !== undefined && known.pair.key !== key) {
      this.#end([known], "the relay gave its id to another agent", now);
    }
    const pair = this.#pairOf(key, offer.agent);
    pair.forgetAt = undefined;
    this.#lingering.delete(pair);
    const receiveId = pair.paths.get(relay)?.receiveId ?? this.#options.issueChannelId();
    this.#setPath(pair, relay, pathOf(leg, offer.path, receiveId));

    const replaced = [...pair.sessions].filter(
      (it) => it.relay === relay && (it.service === offer.service || it.id === offer.session),
    );
    const session = this.#newSession(relay, offer, pair, now);
    for (const old of replaced) this.#forgetSession(old);
    pair.sessions.add(session);
    this.#sessions.set(keyOf(relay, session.id), session);
    this.#enforce(pair, now);
    const { id, service } = session;
    const { identity } = pair;
    this.#events.push({ type: "session-opened", session: id, service, identity });
    return receiveId;
  }

  renew(relay: number, id: string, leaseMs: number, now: Instant): void {
    const session = this.#sessions.get(keyOf(relay, id));
    if (session === undefined) return;

    session.expiresAt = after(now, ms(leaseMs));
    session.confirmBy = undefined;
    this.#wake(session.expiresAt);
  }

  /** A relay ends a session. */
  close(relay: number, id: string, code: CloseCodeName, reason: string, now: Instant): void {
    const session = this.#sessions.get(keyOf(relay, id));
    if (session === undefined) return;

    const { spki, service } = session;
    const detail = `${code}: ${reason}`;
    if (code !== "FORBIDDEN" && code !== "REVOKED") this.#end([session], detail, now);
    else this.endWhere((it) => it.spki === spki && it.service === service, detail, now);
  }

  /** Ends every session that `matches`, and cuts what it alone allowed. */
  endWhere(matches: (session: Session) => boolean, reason: string, now: Instant): void {
    this.#end([...this.#sessions.values()].filter(matches), reason, now);
  }

  /** A relay forgot everything: what it gave must be confirmed. */
  handleNewEpoch(relay: number, now: Instant): void {
    for (const session of this.#sessions.values()) {
      if (session.relay === relay) session.confirmBy ??= after(now, CONFIRM_WITHIN);
    }
    this.#wake(after(now, CONFIRM_WITHIN));
  }

  /** A leg was replaced: its relay forwards from the successor's address. */
  handleNewLeg(relay: number, leg: ConnectionHandle): void {
    for (const pair of this.#pairs.values()) {
      const path = pair.paths.get(relay);
      if (path !== undefined) this.#setPath(pair, relay, movedTo(leg, path));
    }
  }

  /** Judges a tunnel by its leaf and by the sessions of the pair whose channel it came over. */
  handleHandshake({ connection, pair: id, leaf }: HandshakeEvent, isRevoked: PeerTest): void {
    const pair = this.#byId.get(id ?? -1);
    const peer = proveAgent(this.#options.judgeAgent, leaf, pair);
    const refusal = peer.ok ? obstacleTo(peer.value, pair, isRevoked) : peer.error;
    if (refusal !== undefined) this.#refuse(connection, refusal);
    else if (peer.ok && pair !== undefined) this.#admit(pair, connection, leaf, peer.value);
  }

  /** Others are trusted from here on: a tunnel whose leaf proves somebody else, or nobody, ends. */
  handleIdentities(): void {
    for (const pair of this.#byTunnel.values()) {
      const { tunnel } = pair;
      const refusal = tunnel && refusalOf(this.#options.judgeAgent, tunnel.leaf, pair);
      if (tunnel === undefined || refusal === undefined) continue;
      pair.tunnel = undefined;
      this.#refuse(tunnel.connection, refusal);
    }
  }

  /** Returns the pair whose tunnel it is. */
  pairOf(connection: ConnectionHandle): TunnelOfPair | undefined {
    const pair = this.#byTunnel.get(connection);
    return pair?.tunnel?.connection === connection ? { pair, tunnel: pair.tunnel } : undefined;
  }

  grant({ tunnel }: TunnelOfPair, service: string): void {
    tunnel.granted.add(service);
    this.#commands.push({ type: "grant", tunnel: tunnel.connection, service });
  }

  /** The agent has stopped using a service. */
  release({ tunnel }: TunnelOfPair, service: string): void {
    if (!tunnel.granted.delete(service)) return;
    this.#revoke(tunnel, service);
  }

  closeTunnel({ pair, tunnel }: TunnelOfPair, code: CloseCodeName, reason: string): void {
    pair.tunnel = undefined;
    const { connection } = tunnel;
    this.#commands.push({ type: "close-connection", connection, code: CloseCode[code], reason });
  }

  /** The agent broke the protocol. */
  violate(tunnel: TunnelOfPair, reason: string, code: CloseCodeName = "PROTOCOL_VIOLATION"): void {
    this.#tellViolation(tunnel.pair, reason);
    this.closeTunnel(tunnel, code, reason);
  }

  closeTunnelsWhere(matches: PeerTest, code: CloseCodeName, reason: string): void {
    for (const pair of [...this.#byTunnel.values()]) {
      const { tunnel } = pair;
      if (tunnel !== undefined && matches(tunnel.peer)) {
        this.closeTunnel({ pair, tunnel }, code, reason);
      }
    }
  }

  handleClosed(event: ClosedEvent): void {
    const pair = this.pairOf(event.connection)?.pair;
    this.#byTunnel.delete(event.connection);
    if (pair === undefined) return;

    pair.tunnel = undefined;
    if (isViolation(event)) this.#tellViolation(pair, describeClose(event));
  }

  handleFlow({ tunnel, service, change, count, bytesUp, bytesDown }: FlowEvent): void {
    const pair = this.#byTunnel.get(tunnel);
    if (pair === undefined || change === "refused") return;

    const { flows, bytes } = pair.usage.get(service) ?? NO_USAGE;
    const opened = change === "opened";
    pair.usage.set(service, {
      flows: flows + (opened ? count : 0),
      bytes: bytes + (opened ? 0 : bytesUp + bytesDown),
    });
  }

  handleTimeout(now: Instant): void {
    if (!isDue(this.#wakeAt, now)) return;

    this.endWhere(({ expiresAt }) => expiresAt <= now, "the lease ran out", now);
    this.endWhere(({ confirmBy }) => isDue(confirmBy, now), "not confirmed in time", now);
    for (const pair of [...this.#pairs.values()]) {
      if (isDue(pair.forgetAt, now)) this.#forgetPair(pair);
    }
    this.#wakeAt = undefined;
    for (const { expiresAt, confirmBy } of this.#sessions.values()) {
      this.#wake(expiresAt, confirmBy);
    }
    for (const { forgetAt } of this.#pairs.values()) this.#wake(forgetAt);
  }

  /** Returns when something may be due: never too late, sometimes too early. */
  pollTimeout(): Instant | undefined {
    return this.#wakeAt;
  }

  /** Sends a command after those that the table itself has caused. */
  command(command: EndpointCommand): void {
    this.#commands.push(command);
  }

  pollCommand(): EndpointCommand | undefined {
    return this.#commands.shift();
  }

  pollEvent(): ConnectorEvent | undefined {
    return this.#events.shift();
  }

  /** Sessions that ended here, for whoever reports their usage. */
  pollEnded(): Session | undefined {
    return this.#ended.shift();
  }

  #newSession(relay: number, offer: SessionOffer, pair: AgentPair, now: Instant): Session {
    const expiresAt = after(now, ms(offer.leaseMs));
    this.#wake(expiresAt);
    return {
      ...{ relay, id: offer.session, service: offer.service, pair, spki: offer.agent.spki },
      ...{ before: pair.usage.get(offer.service) ?? NO_USAGE, expiresAt, confirmBy: undefined },
    };
  }

  #pairOf(key: string, { identity, instance }: SessionOffer["agent"]): AgentPair {
    const known = this.#pairs.get(key);
    if (known !== undefined) return known;

    const [idlest] = this.#lingering;
    if (this.#pairs.size >= this.#options.sessionsMax && idlest !== undefined) {
      this.#forgetPair(idlest);
    }
    this.#pairsIssued += 1;
    const pair = newPair(this.#pairsIssued, key, identity, instance);
    this.#pairs.set(key, pair);
    this.#byId.set(pair.id, pair);
    return pair;
  }

  #setPath(pair: AgentPair, relay: number, path: RelayedPath): void {
    pair.paths.set(relay, path);
    this.#commands.push({ type: "open-relayed-path", pair: pair.id, ...path });
  }

  #admit(pair: AgentPair, connection: ConnectionHandle, leaf: LeafInfo, peer: ProvenPeer): void {
    const { tunnel } = pair;
    if (tunnel !== undefined) this.closeTunnel({ pair, tunnel }, "SUPERSEDED", "a later tunnel");

    const exchange = new CandidateExchange(this.#options.randomHex);
    const pacer = agentPacer();
    pair.tunnel = { connection, leaf, peer, granted: new Set(), exchange, pacer };
    this.#byTunnel.set(connection, pair);
    this.#commands.push({ type: "admit", connection });
    this.#events.push({ type: "tunnel-admitted", identity: pair.identity });
  }

  #refuse(connection: ConnectionHandle, { code, identity, reason }: Refusal): void {
    const told = { code: CloseCode[code], reason: "no session allows this tunnel" };
    this.#commands.push({ type: "close-connection", connection, ...told });
    this.#events.push({ type: "tunnel-refused", identity, reason });
  }

  #tellViolation({ identity }: AgentPair, reason: string): void {
    this.#events.push({ type: "tunnel-violation", identity, reason });
  }

  #end(sessions: readonly Session[], reason: string, now: Instant): void {
    for (const session of sessions) {
      this.#forgetSession(session);
      this.#ended.push(session);
      const { id, service, pair } = session;
      const { identity } = pair;
      this.#events.push({ type: "session-ended", session: id, service, identity, reason });
    }
    for (const pair of new Set(sessions.map((session) => session.pair))) this.#enforce(pair, now);
  }

  /** Cuts what no session allows, and begins to forget a pair that has none. */
  #enforce(pair: AgentPair, now: Instant): void {
    const { tunnel } = pair;
    if (tunnel !== undefined) {
      for (const service of [...tunnel.granted]) {
        if (hasSession(pair, tunnel.peer.spki, service)) continue;
        tunnel.granted.delete(service);
        this.#revoke(tunnel, service);
        const notice = encodeControl({ type: "close-service", service, code: "FORBIDDEN" });
        const { connection } = tunnel;
        this.#commands.push({ type: "send-control", connection, frame: notice });
      }
    }
    if (pair.sessions.size > 0 || pair.forgetAt !== undefined) return;
    pair.forgetAt = after(now, PAIR_LINGER);
    this.#lingering.add(pair);
    this.#wake(pair.forgetAt);
  }

  #revoke({ connection }: ConnectorTunnel, service: string): void {
    const code = FLOW_SESSION_ENDED;
    this.#commands.push({ type: "revoke", tunnel: connection, service, code });
  }

  #forgetSession(session: Session): void {
    session.pair.sessions.delete(session);
    this.#sessions.delete(keyOf(session.relay, session.id));
  }

  #forgetPair(pair: AgentPair): void {
    const { tunnel } = pair;
    if (tunnel !== undefined) this.closeTunnel({ pair, tunnel }, "IDLE", "no session left");
    for (const { receiveId } of pair.paths.values()) {
      this.#commands.push({ type: "close-channel", channel: receiveId });
    }
    this.#lingering.delete(pair);
    this.#pairs.delete(pair.key);
    this.#byId.delete(pair.id);
  }

  #wake(...deadlines: readonly (Instant | undefined)[]): void {
    for (const at of deadlines) {
      if (at !== undefined && (this.#wakeAt === undefined || at < this.#wakeAt)) this.#wakeAt = at;
    }
  }
}

function keyOf(relay: number, session: string): string {
  return `${relay} ${session}`;
}
