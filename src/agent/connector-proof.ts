/** Whether a tunnel's leaf proves the connector that a session named. */
import { err, type Result } from "../base/result.ts";
import type { JudgePeer } from "../leg/judge.ts";
import type { LeafInfo, ProvenPeer } from "../policy/identity.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import type { Pair } from "./tunnel-report.ts";

export interface Refusal {
  readonly code: number;
  /** For `status`: whom this agent would have taken is no business of a stranger. */
  readonly reason: string;
}

export function proveConnector(
  judge: JudgePeer,
  leaf: LeafInfo,
  { identity, spki }: Pair,
): Result<ProvenPeer, Refusal> {
  const peer = judge(leaf);
  if (!peer.ok) {
    const { reason, detail } = peer.error;
    return err({ code: CloseCode.UNAUTHENTICATED, reason: `${reason}: ${detail}` });
  }
  if (peer.value.identity.uri === identity && peer.value.spki === spki) return peer;

  const proven = `${peer.value.identity.uri} with key ${peer.value.spki}`;
  const reason = `${proven} is not ${identity} with key ${spki}`;
  return err({ code: CloseCode.FORBIDDEN, reason });
}
