/** Whether a tunnel's leaf proves an agent that a session of its pair is with. */
import { err, type Result } from "../base/result.ts";
import type { JudgePeer } from "../leg/judge.ts";
import type { LeafInfo, ProvenPeer } from "../policy/identity.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import { type AgentPair, mayEnter } from "./agent-pair.ts";

export type PeerTest = (peer: ProvenPeer) => boolean;

export interface Refusal {
  readonly code: CloseCodeName;
  /** Whose tunnel it is, as far as that is known. */
  readonly identity: string;
  /** For the log: the peer hears less. */
  readonly reason: string;
}

/** Judges a leaf by itself. */
export function proveAgent(
  judge: JudgePeer,
  leaf: LeafInfo,
  pair: AgentPair | undefined,
): Result<ProvenPeer, Refusal> {
  const peer = judge(leaf);
  if (peer.ok) return peer;

  const { reason, detail } = peer.error;
  const identity = pair?.identity ?? "nobody";
  return err({ code: "UNAUTHENTICATED", identity, reason: `${reason}: ${detail}` });
}

/** Returns why a proven agent may not have a tunnel over the channel of `pair`, if it may not. */
export function obstacleTo(
  peer: ProvenPeer,
  pair: AgentPair | undefined,
  isRevoked: PeerTest,
): Refusal | undefined {
  const identity = peer.identity.uri;
  if (isRevoked(peer)) return { code: "REVOKED", identity, reason: "its certificate is revoked" };
  if (pair !== undefined && mayEnter(pair, peer)) return undefined;

  const reason = `no session of this channel is with key ${peer.spki}`;
  return { code: "FORBIDDEN", identity, reason };
}

/** Returns why the leaf of a tunnel does not prove the agent of its pair, if it does not. */
export function refusalOf(judge: JudgePeer, leaf: LeafInfo, pair: AgentPair): Refusal | undefined {
  const peer = proveAgent(judge, leaf, pair);
  if (!peer.ok) return peer.error;

  const { identity } = pair;
  const { uri } = peer.value.identity;
  const reason = `its certificate is of ${uri}`;
  return uri === identity ? undefined : { code: "UNAUTHENTICATED", identity, reason };
}
