/** What the agent knows of its connectors, and what its tunnels tell its sessions. */

import { type Duration, type Instant, seconds } from "../base/time.ts";
import { describeClose, isRefusal, isViolation } from "../leg/closing.ts";
import {
  type ClosedEvent,
  type ConnectionHandle,
  FlowAnswer,
  type PairId,
} from "../leg/endpoint-port.ts";
import type { RelayedPath } from "../leg/relayed-path.ts";
import type { CandidateExchange } from "../p2p/candidate-exchange.ts";
import type { LeafInfo, ProvenPeer } from "../policy/identity.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import type { FramePacer } from "../protocol/frame-pacer.ts";
import type { PeerDescription } from "../protocol/messages.ts";

/** A handshake over two relays, with room for the retransmission of two lost flights. */
export const TUNNEL_CONNECT_TIMEOUT: Duration = seconds(10);
/** The connector answers from memory; this allows for three lost round trips. */
export const OPEN_TIMEOUT: Duration = seconds(5);
/** `docs/protocol.md`, lifetimes: a silent tunnel that answers within this serves on. */
export const SILENCE_MAX: Duration = seconds(120);

/** This agent and one connector instance. */
export interface Pair {
  readonly id: PairId;
  readonly key: string;
  /** As a session named it; its leaf must prove the same. */
  readonly identity: string;
  readonly spki: string;
  readonly instance: string;
  /** By the number of the relay that forwards. */
  readonly paths: Map<number, RelayedPath>;
  readonly services: Map<string, OpenedService>;
  tunnel: AgentTunnel | undefined;
  /** Set while no path answers: when the tunnel is given up. */
  silentUntil: Instant | undefined;
}

export interface AgentTunnel {
  readonly connection: ConnectionHandle;
  readonly exchange: CandidateExchange;
  /** Until the handshake is done. */
  deadline: Instant | undefined;
  /** Of what the connector says on it. */
  readonly pacer: FramePacer;
  /** Once it was judged good. */
  leaf?: LeafInfo;
  /** Whom the leaf proves. */
  peer: ProvenPeer | undefined;
  /** Number of the latest request on this tunnel. */
  requests: number;
}

export interface OpenedService {
  readonly session: string;
  state: "waiting" | "asked" | "open";
  request?: number;
  due?: Instant | undefined;
}

/** Why an application did not reach a service, for it and for people. */
export interface AccessFailure {
  /** For scripts; one of a closed set or a failure code of the protocol. */
  readonly code: string;
  /** For people: one line. */
  readonly reason: string;
  /** What the waiting flows are answered. */
  readonly answer: number;
}

/** Code of a failure whose cause is that the connector broke the protocol. */
export const PROTOCOL_VIOLATION = "protocol-violation";

export type TunnelReport =
  | { readonly type: "opened"; readonly pair: Pair; readonly service: string }
  | {
      readonly type: "open-failed";
      readonly pair: Pair;
      readonly service: string;
      readonly failure: AccessFailure;
    }
  /** The connector ended one service. */
  | {
      readonly type: "service-closed";
      readonly pair: Pair;
      readonly service: string;
      readonly code: CloseCodeName;
    }
  /** The tunnel is gone, with these services. */
  | {
      readonly type: "pair-lost";
      readonly pair: Pair;
      readonly services: readonly string[];
      readonly failure: AccessFailure;
    }
  | { readonly type: "silent"; readonly pair: Pair; readonly silent: boolean };

export function newPair(id: PairId, key: string, peer: PeerDescription): Pair {
  const { identity, spki, instance } = peer;
  const paths: Pair["paths"] = new Map();
  const services: Pair["services"] = new Map();
  const tunnel = undefined;
  return { id, key, identity, spki, instance, paths, services, tunnel, silentUntil: undefined };
}

/** Returns the service that a request of this pair's tunnel asked for. */
export function serviceOf(pair: Pair, request: number): string | undefined {
  for (const [service, opened] of pair.services) {
    if (opened.state === "asked" && opened.request === request) return service;
  }
  return undefined;
}

/** Returns what the end of a tunnel means for the services that were to run over it. */
export function failureOfClose(event: ClosedEvent): AccessFailure {
  const reason = describeClose(event);
  if (isRefusal(event)) return { code: "tunnel-refused", reason, answer: FlowAnswer.NotAvailable };

  const code = isViolation(event) ? PROTOCOL_VIOLATION : "tunnel-lost";
  return { code, reason, answer: FlowAnswer.Unreachable };
}

export const TIMED_OUT = { code: "timed-out", answer: FlowAnswer.TimedOut } as const;
