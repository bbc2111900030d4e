/** What the connector knows of an agent instance: its sessions, paths and tunnel. */

import type { Instant } from "../base/time.ts";
import type { ConnectionHandle, PairId } from "../leg/endpoint-port.ts";
import type { RelayedPath } from "../leg/relayed-path.ts";
import type { CandidateExchange } from "../p2p/candidate-exchange.ts";
import type { LeafInfo, ProvenPeer } from "../policy/identity.ts";
import type { FramePacer } from "../protocol/frame-pacer.ts";
import type { PeerDescription } from "../protocol/messages.ts";

export interface AgentPair {
  readonly id: PairId;
  readonly key: string;
  /** As sessions name it; its leaf must prove the same. */
  readonly identity: string;
  readonly instance: string;
  /** By the number of the relay that forwards. */
  readonly paths: Map<number, RelayedPath>;
  readonly sessions: Set<Session>;
  /** Of each service since the pair exists. */
  readonly usage: Map<string, Usage>;
  tunnel: ConnectorTunnel | undefined;
  /** Set while there is no session: when the pair is forgotten. */
  forgetAt: Instant | undefined;
}

export interface Session {
  readonly relay: number;
  readonly id: string;
  readonly service: string;
  readonly pair: AgentPair;
  /** The key that the relay saw: the tunnel's leaf must have it. */
  readonly spki: string;
  /** What the pair had used of the service when the session began. */
  readonly before: Usage;
  expiresAt: Instant;
  /** Set while a relay with another epoch has not confirmed the session. */
  confirmBy: Instant | undefined;
}

export interface Usage {
  readonly flows: number;
  readonly bytes: number;
}

export interface ConnectorTunnel {
  readonly connection: ConnectionHandle;
  readonly leaf: LeafInfo;
  readonly peer: ProvenPeer;
  readonly granted: Set<string>;
  readonly exchange: CandidateExchange;
  /** Of what the agent says on it. */
  readonly pacer: FramePacer;
}

/** A tunnel, and whose it is. */
export interface TunnelOfPair {
  readonly pair: AgentPair;
  readonly tunnel: ConnectorTunnel;
}

export const NO_USAGE: Usage = { flows: 0, bytes: 0 };

export function newPair(id: PairId, key: string, identity: string, instance: string): AgentPair {
  return {
    ...{ id, key, identity, instance, paths: new Map(), sessions: new Set<Session>() },
    ...{ usage: new Map<string, Usage>(), tunnel: undefined, forgetAt: undefined },
  };
}

export function usageSince({ pair, service, before }: Session): Usage {
  const { flows, bytes } = pair.usage.get(service) ?? NO_USAGE;
  return { flows: flows - before.flows, bytes: bytes - before.bytes };
}

/** Returns whether the pair may use `service` with this key until the session ends. */
export function hasSession(pair: AgentPair, spki: string, service: string): boolean {
  return [...pair.sessions].some((it) => it.service === service && it.spki === spki);
}

/** Whether a session of this pair is with the identity and the key that the leaf proves. */
export function mayEnter(pair: AgentPair, { identity, spki }: ProvenPeer): boolean {
  if (identity.uri !== pair.identity) return false;
  return [...pair.sessions].some((session) => session.spki === spki);
}

/** Each instance of an identity has a pair of its own. */
export function pairKey({ identity, instance }: PeerDescription): string {
  return `${identity} ${instance}`;
}
