/**
 * Legs from their handshake to their end, and the peers behind them.
 *
 * - **Who a peer is, its certificate says**: a handshake that proves nobody is closed, the reason is
 *   logged and never told.
 * - **A higher attempt of the same instance supersedes** the older leg, and takes over all it had.
 * - **Another instance from the same address means the process is gone**: what it had ends at once.
 * - **A lost leg suspends** its peer for 120 s; a goodbye or a revocation ends it.
 */
import { after, type Instant, seconds } from "../base/time.ts";
import { judgeLeaf, type ProvenPeer } from "../policy/identity.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import { FramePacer } from "../protocol/frame-pacer.ts";
import { CONNECTOR_FRAMES_FACTOR } from "../protocol/limits.ts";
import type { Hello } from "../protocol/messages.ts";
import type { ChannelTable } from "./channel-table.ts";
import type { Offers } from "./offers.ts";
import type { Leg, Peer, PeerTable } from "./peer-table.ts";
import type { Registration } from "./registration.ts";
import type { RelayContext } from "./relay-context.ts";
import type { RelayEvent, RelayInput, Revocation } from "./relay-values.ts";
import type { RevocationLog } from "./revocation-log.ts";
import type { ServiceLists } from "./service-lists.ts";
import type { SessionOpenings } from "./session-openings.ts";
import type { SessionTable } from "./session-table.ts";

/** `docs/protocol.md` §5: how long a peer without a leg keeps its channels. */
export const LOST_WAIT = seconds(120);
/** Time from the handshake to `hello`: some losses on the slowest path. */
export const HELLO_WAIT = seconds(10);

type Handshake = Extract<RelayInput, { readonly type: "handshake" }>;
type Refusal = Omit<Extract<RelayEvent, { readonly type: "leg-refused" }>, "type" | "remote">;
type DownReason = Extract<RelayEvent, { readonly type: "leg-down" }>["reason"];

interface Parts {
  readonly peers: PeerTable;
  readonly channels: ChannelTable;
  readonly sessions: SessionTable;
  readonly offers: Offers;
  readonly openings: SessionOpenings;
  readonly registration: Registration;
  readonly lists: ServiceLists;
  readonly revocations: RevocationLog;
}

export class Admission {
  readonly #context: RelayContext;
  readonly #parts: Parts;

  constructor(context: RelayContext, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  handleHandshake({ connection, remote, leaf, expiresAt }: Handshake, now: Instant): void {
    const judged = judgeLeaf(leaf, EXPECTATION, this.#context.identities);
    if (!judged.ok) {
      this.#refuse(connection, remote, "UNAUTHENTICATED", judged.error);
      return;
    }
    const obstacle = this.#obstacle(judged.value, expiresAt, now);
    if (obstacle !== undefined) {
      const { code, ...refusal } = obstacle;
      this.#refuse(connection, remote, code, refusal);
      return;
    }

    const proven = judged.value;
    const leg: Leg = {
      connection,
      remote,
      rttUs: undefined,
      leaf,
      expiresAt,
      proven,
      pacer: new FramePacer(this.frameRate(proven)),
      revocationsTold: undefined,
      peer: undefined,
      helloDeadline: undefined,
      frameDeadline: undefined,
    };
    leg.helloDeadline = this.#context.timers.set(after(now, HELLO_WAIT), { type: "hello", leg });
    this.#parts.peers.addLeg(leg);
    this.#context.push({ type: "admit", connection });
  }

  handleHello(leg: Leg, hello: Hello, now: Instant): void {
    this.#context.timers.cancel(leg.helloDeadline);
    const identity = leg.proven.identity.uri;
    const known = this.#parts.peers.peer(identity, hello.instance);
    if (known !== undefined && hello.attempt <= known.attempt) {
      this.closeLeg(leg, "SUPERSEDED", "a later attempt of this instance is here", now);
      return;
    }

    this.#endPredecessors(leg, hello.instance, now);
    const peer =
      known === undefined
        ? this.#welcomeStranger(leg, hello, now)
        : this.#supersede(known, leg, hello);
    this.#context.event({
      type: "leg-up",
      identity,
      role: leg.proven.identity.role,
      instance: hello.instance,
      remote: leg.remote,
    });
    this.#sendWelcome(leg);
    if (peer.proven.identity.role === "agent") this.#parts.lists.begin(peer, now);
    if (known !== undefined) this.#resume(peer, now);
  }

  /** The data plane says that the connection ended. */
  handleClosed(leg: Leg, how: "goodbye" | "revoked" | "lost", now: Instant): void {
    const { peer } = leg;
    this.#dropLeg(leg, how);
    if (peer === undefined || peer.leg !== undefined) return;

    if (how === "goodbye") this.#endPeer(peer, "SHUTTING_DOWN", "the peer went away", now);
    else if (how === "revoked") this.#endPeer(peer, "REVOKED", "the certificate is revoked", now);
    else this.#suspend(peer, now);
  }

  /** Ends a leg by this side's decision; its peer may come back with another. */
  closeLeg(leg: Leg, code: CloseCodeName, reason: string, now: Instant): void {
    const { peer } = leg;
    this.#context.close(leg, code, reason);
    this.#dropLeg(leg, "closed", code);
    if (peer !== undefined && peer.leg === undefined) this.#suspend(peer, now);
  }

  /** The peer has been without a leg for too long. */
  handleLostTimeout(peer: Peer, now: Instant): void {
    peer.lostDeadline = undefined;
    this.#parts.channels.closeAll(peer);
    this.#parts.registration.drop(peer, now);
    for (const session of [...peer.sessions]) {
      const other = session.agent === peer ? session.connector : session.agent;
      if (other.leg !== undefined || other.lostDeadline !== undefined) continue;
      this.#parts.sessions.end(session, "IDLE", "both peers are gone");
    }
    this.#parts.peers.removeIfGone(peer);
  }

  /** Ends whoever the revocation names. */
  handleRevoked(name: Revocation, now: Instant): void {
    const isMeant = ({ proven: { spki, issuer, serial } }: Leg | Peer) =>
      name.spki === undefined
        ? issuer === name.issuer && serial === name.serial
        : spki === name.spki;
    this.#endAll(isMeant, "REVOKED", "the certificate is revoked", now);
  }

  /** Judges every certificate again by the configuration in force, those of lost peers too. */
  handleIdentities(now: Instant): void {
    const isMeant = ({ leaf, proven }: Leg | Peer) => {
      const judged = judgeLeaf(leaf, EXPECTATION, this.#context.identities);
      return !judged.ok || judged.value.identity.uri !== proven.identity.uri;
    };
    this.#endAll(isMeant, "UNAUTHENTICATED", "the certificate proves nobody", now);
  }

  frameRate({ identity }: ProvenPeer): { readonly perSecond: number; readonly burst: number } {
    const { framesPerSecond, framesBurst } = this.#context.settings.limits;
    const factor = identity.role === "connector" ? CONNECTOR_FRAMES_FACTOR : 1;
    return { perSecond: framesPerSecond * factor, burst: framesBurst * factor };
  }

  #obstacle(
    proven: ProvenPeer,
    expiresAt: Instant,
    now: Instant,
  ): (Refusal & { readonly code: CloseCodeName }) | undefined {
    const { uri } = proven.identity;
    const { legsPerIdentity } = this.#context.settings.limits;
    const detail = uri;
    if (this.#parts.revocations.covers(proven)) {
      return { code: "REVOKED", reason: "revoked", detail };
    }
    if (expiresAt <= now) return { code: "UNAUTHENTICATED", reason: "expired", detail };
    if (this.#parts.peers.legsOf(uri) >= legsPerIdentity) {
      return { code: "LIMIT_EXCEEDED", reason: "legs-exceeded", detail };
    }
    return undefined;
  }

  #refuse(connection: number, remote: string, code: CloseCodeName, refusal: Refusal): void {
    this.#context.push({ type: "close-connection", connection, code, reason: "" });
    this.#context.event({ type: "leg-refused", remote, ...refusal });
  }

  #welcomeStranger(leg: Leg, { instance, attempt }: Hello, now: Instant): Peer {
    this.#makeRoom(leg, now);
    const peer = this.#parts.peers.addPeer(leg, instance, attempt);
    leg.peer = peer;
    return peer;
  }

  #supersede(peer: Peer, leg: Leg, { attempt }: Hello): Peer {
    const old = peer.leg;
    if (old !== undefined) {
      const [from, to] = [old.connection, leg.connection];
      this.#context.push({ type: "move-channels", from, to });
      this.#context.close(old, "SUPERSEDED", "a later attempt of this instance is here");
      this.#dropLeg(old, "superseded");
    }
    this.#context.timers.cancel(peer.lostDeadline);
    peer.lostDeadline = undefined;
    peer.leg = leg;
    peer.attempt = attempt;
    peer.leaf = leg.leaf;
    peer.proven = leg.proven;
    peer.expiresAt = leg.expiresAt;
    peer.remote = leg.remote;
    leg.peer = peer;
    return peer;
  }

  /** What the peer had goes on over its leg in force. */
  #resume(peer: Peer, now: Instant): void {
    this.#parts.channels.reopen(peer);
    this.#parts.openings.handleAgentLegGone(peer);
    this.#parts.offers.handleLegReplaced(peer, now);
    this.#parts.openings.repeatOffers(peer, now);
    for (const session of [...peer.sessions]) this.#parts.sessions.renewIfDue(session, now);
  }

  #suspend(peer: Peer, now: Instant): void {
    this.#parts.lists.end(peer);
    this.#parts.openings.handleAgentLegGone(peer);
    this.#parts.offers.handleLegGone(peer, now);
    const deadline = this.#context.timers.set(after(now, LOST_WAIT), { type: "lost", peer });
    peer.lostDeadline = deadline;
  }

  #endPeer(peer: Peer, code: CloseCodeName, reason: string, now: Instant): void {
    this.#context.timers.cancel(peer.lostDeadline);
    this.#parts.lists.end(peer);
    this.#parts.openings.forget(peer);
    for (const session of [...peer.sessions]) this.#parts.sessions.end(session, code, reason);
    this.#parts.channels.closeAll(peer);
    this.#parts.offers.handleLegGone(peer, now);
    this.#parts.registration.drop(peer, now);
    this.#parts.peers.removePeer(peer);
  }

  /** Ends a leg and all that its peer has. */
  #endLeg(leg: Leg, code: CloseCodeName, reason: string, now: Instant): void {
    const { peer } = leg;
    if (peer !== undefined && peer.leg === leg) this.#endPeer(peer, code, reason, now);
    this.#context.close(leg, code, reason);
    this.#dropLeg(leg, code === "REVOKED" ? "revoked" : "closed", code);
  }

  #endAll(
    isMeant: (who: Leg | Peer) => boolean,
    code: CloseCodeName,
    reason: string,
    now: Instant,
  ): void {
    for (const leg of [...this.#parts.peers.legs.values()]) {
      if (isMeant(leg)) this.#endLeg(leg, code, reason, now);
    }
    for (const peer of [...this.#parts.peers.peers.values()]) {
      if (isMeant(peer)) this.#endPeer(peer, code, reason, now);
    }
  }

  /** The process that spoke from this address is gone. */
  #endPredecessors(leg: Leg, instance: string, now: Instant): void {
    for (const peer of this.#parts.peers.peersOf(leg.proven.identity.uri)) {
      if (peer.remote !== leg.remote || peer.instance === instance) continue;

      const old = peer.leg;
      if (old !== undefined) this.#endLeg(old, "SUPERSEDED", "another process is here", now);
      else this.#endPeer(peer, "SHUTTING_DOWN", "another process is here", now);
    }
  }

  /** An identity has no more peers than legs: the one lost for longest makes room. */
  #makeRoom({ proven }: Leg, now: Instant): void {
    const peers = this.#parts.peers.peersOf(proven.identity.uri);
    if (peers.length < this.#context.settings.limits.legsPerIdentity) return;

    const lost = peers.find(({ leg }) => leg === undefined);
    if (lost !== undefined) this.#endPeer(lost, "LIMIT_EXCEEDED", "too many instances", now);
  }

  #dropLeg(leg: Leg, reason: DownReason, code?: CloseCodeName): void {
    this.#context.timers.cancel(leg.helloDeadline);
    this.#context.timers.cancel(leg.frameDeadline);
    this.#parts.peers.removeLeg(leg);
    const event = { type: "leg-down", identity: leg.proven.identity.uri, reason } as const;
    this.#context.event(code === undefined ? event : { ...event, code });
  }

  #sendWelcome(leg: Leg): void {
    const { settings, sources } = this.#context;
    const { limits } = settings;
    const isAgent = leg.proven.identity.role === "agent";
    const { perSecond: framesPerSecond, burst: framesBurst } = this.frameRate(leg.proven);
    const channels = isAgent ? limits.channelsPerAgentLeg : limits.channelsPerConnectorLeg;
    this.#context.sendOn(leg, {
      type: "welcome",
      relay: settings.relay,
      epoch: settings.epoch,
      features: [],
      nonce: sources.randomHex(32),
      observed: leg.remote,
      limits: {
        services: isAgent ? limits.servicesPerAgent : limits.servicesPerConnector,
        // A connector has as many sessions as its agents open.
        sessions: isAgent ? limits.sessionsPerAgent : channels,
        channels,
        framesPerSecond,
        framesBurst,
      },
      stun: {
        username: sources.randomHex(8),
        password: sources.randomHex(16),
        addresses: settings.stunAddresses,
      },
    });
  }
}

const EXPECTATION = { peer: "dialled-us", roles: ["agent", "connector"] } as const;
