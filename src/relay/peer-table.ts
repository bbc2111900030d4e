/**
 * Legs and the peers behind them.
 *
 * A *leg* is one connection. A *peer* is one process, keyed by (identity, instance): it outlives its
 * legs, and what it has at this relay (registration, sessions, channels) hangs on it.
 */
import type { Deadline } from "../base/deadlines.ts";
import type { Instant } from "../base/time.ts";
import type { LeafInfo, ProvenPeer } from "../policy/identity.ts";
import type { FramePacer } from "../protocol/frame-pacer.ts";
import type { Channel } from "./channel-table.ts";
import type { Offer } from "./offers.ts";
import type { ConnectionHandle } from "./relay-values.ts";
import type { Opening } from "./session-openings.ts";
import type { Session } from "./session-table.ts";

export interface Leg {
  readonly connection: ConnectionHandle;
  readonly remote: string;
  readonly leaf: LeafInfo;
  readonly expiresAt: Instant;
  readonly pacer: FramePacer;
  proven: ProvenPeer;
  /** Least round-trip time until its latest frame. */
  rttUs: number | undefined;
  /** Of a connector: the number of the last revocation told; `undefined` until it registers. */
  revocationsTold: number | undefined;
  /** Set by `hello`. */
  peer: Peer | undefined;
  /** Until `hello`, and while frames wait. */
  helloDeadline: Deadline | undefined;
  frameDeadline: Deadline | undefined;
}

export interface Peer {
  readonly key: string;
  readonly instance: string;
  /** The certificate of its latest leg, and what that proves. */
  leaf: LeafInfo;
  proven: ProvenPeer;
  expiresAt: Instant;
  /** The address of its latest leg. */
  remote: string;
  attempt: number;
  /** `undefined` while the leg is lost. */
  leg: Leg | undefined;
  /** While the leg is lost and may come back in time. */
  lostDeadline: Deadline | undefined;
  /** Of the first registration in this epoch. */
  registeredAt: Instant | undefined;
  /** Left an offer unanswered: until the deadline passes and the PING was not found silent. */
  stall: { readonly deadline: Deadline; silent: boolean } | undefined;
  /** Left its last offer unanswered and has said nothing since: others are asked first. */
  isMute: boolean;
  nextRequest: number;
  readonly sessions: Set<Session>;
  readonly channels: Map<string, Channel>;
  /** Of a connector: offers that it has not answered, by request. */
  readonly offers: Map<number, Offer>;
  /** How many of them are for agents of one identity; none is not in it. */
  readonly offersByIdentity: Map<string, number>;
  /** Of a connector: sessions whose offers were given up, by request. */
  readonly lateOffers: Map<number, string>;
  /** Of an agent: openings under way. */
  readonly openings: Map<string, Opening>;
  list: ServiceListState | undefined;
}

/** What an agent's leg was told of services. */
export interface ServiceListState {
  generation: number;
  /** Name → ports, as text. */
  readonly told: Map<string, string>;
  /** What that takes in messages. */
  bytes: number;
  /** While something is left out: when to look again whether there is room for it. */
  checkAt: Instant | undefined;
  /** How many changes of the registry the agent has seen. */
  cursor: number;
}

export class PeerTable {
  readonly #legs = new Map<ConnectionHandle, Leg>();
  readonly #legsOfIdentity = new Map<string, Set<Leg>>();
  readonly #peers = new Map<string, Peer>();
  readonly #peersOfIdentity = new Map<string, Set<Peer>>();

  get legs(): ReadonlyMap<ConnectionHandle, Leg> {
    return this.#legs;
  }

  get peers(): ReadonlyMap<string, Peer> {
    return this.#peers;
  }

  addLeg(leg: Leg): void {
    this.#legs.set(leg.connection, leg);
    addTo(this.#legsOfIdentity, leg.proven.identity.uri, leg);
  }

  /** Takes the leg out; its peer, if it is still the peer's leg, has none from here on. */
  removeLeg(leg: Leg): void {
    this.#legs.delete(leg.connection);
    removeFrom(this.#legsOfIdentity, leg.proven.identity.uri, leg);
    if (leg.peer?.leg === leg) leg.peer.leg = undefined;
  }

  legsOf(identity: string): number {
    return this.#legsOfIdentity.get(identity)?.size ?? 0;
  }

  peersOf(identity: string): readonly Peer[] {
    return [...(this.#peersOfIdentity.get(identity) ?? [])];
  }

  peer(identity: string, instance: string): Peer | undefined {
    return this.#peers.get(peerKey(identity, instance));
  }

  addPeer(leg: Leg, instance: string, attempt: number): Peer {
    const { leaf, proven, expiresAt, remote } = leg;
    const peer: Peer = {
      key: peerKey(proven.identity.uri, instance),
      instance,
      leaf,
      proven,
      expiresAt,
      remote,
      attempt,
      leg,
      lostDeadline: undefined,
      registeredAt: undefined,
      stall: undefined,
      isMute: false,
      nextRequest: 1,
      sessions: new Set(),
      channels: new Map(),
      offers: new Map(),
      offersByIdentity: new Map(),
      lateOffers: new Map(),
      openings: new Map(),
      list: undefined,
    };
    this.#peers.set(peer.key, peer);
    addTo(this.#peersOfIdentity, proven.identity.uri, peer);
    return peer;
  }

  /** Takes out a peer that has been lost for too long and whose last session ended. */
  removeIfGone(peer: Peer): void {
    const isLost = peer.leg === undefined && peer.lostDeadline === undefined;
    if (isLost && peer.sessions.size === 0) this.removePeer(peer);
  }

  removePeer(peer: Peer): void {
    this.#peers.delete(peer.key);
    removeFrom(this.#peersOfIdentity, peer.proven.identity.uri, peer);
  }
}

/** Returns what the ends of a channel are told of its length; nothing while a leg is lost. */
export function roundTrip(
  agent: Leg | undefined,
  connector: Leg | undefined,
): { readonly rttMs?: number } {
  if (agent?.rttUs === undefined || connector?.rttUs === undefined) return {};
  return { rttMs: Math.ceil((agent.rttUs + connector.rttUs) / 1000) };
}

/** A URI has no space, so no two pairs share a key. */
function peerKey(identity: string, instance: string): string {
  return `${identity} ${instance}`;
}

function addTo<Value>(map: Map<string, Set<Value>>, key: string, value: Value): void {
  const values = map.get(key) ?? new Set<Value>();
  values.add(value);
  map.set(key, values);
}

function removeFrom<Value>(map: Map<string, Set<Value>>, key: string, value: Value): void {
  const values = map.get(key);
  if (values === undefined) return;

  values.delete(value);
  if (values.size === 0) map.delete(key);
}
