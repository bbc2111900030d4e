/**
 * The agent's tunnels: one to each connector instance that a session names.
 *
 * - **The connector proves itself before anything is said to it**: role and usage, the identity and
 *   key that the session named, and for each service `connector.<service>.ztna`, asked of the leaf of
 *   this tunnel. What the relay said about the connector only narrows that.
 * - **A service is granted when the connector answered `open`**, never before; credentials and
 *   candidates follow the first grant of a tunnel.
 * - **Paths belong to the pair**: a second relay adds one to the same tunnel, a leg that was replaced
 *   moves its paths, and the tunnel notices neither.
 * - **A silent tunnel is kept for {@link SILENCE_MAX}**: it may come back with its flows.
 * - **A pair without services ends** with its tunnel and its channels.
 */
import { err, ok, type Result } from "../base/result.ts";
import { after, earliest, type Instant, isDue } from "../base/time.ts";
import {
  type ClosedEvent,
  type ConnectionHandle,
  type ControlEvent,
  type EndpointCommand,
  FLOW_SESSION_ENDED,
  FLOW_UNREACHABLE,
  FlowAnswer,
  type HandshakeEvent,
  type RandomHex,
  type TunnelSilentEvent,
} from "../leg/endpoint-port.ts";
import type { JudgePeer } from "../leg/judge.ts";
import { connectorPacer, PacedFrames } from "../leg/paced-frames.ts";
import { failure } from "../leg/relay-leg.ts";
import { movedTo, type RelayedPath } from "../leg/relayed-path.ts";
import { CandidateExchange } from "../p2p/candidate-exchange.ts";
import { includesService } from "../policy/grants.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import { decodeTunnelMessage } from "../protocol/control-codec.ts";
import type { Candidates, DecodedTunnelMessage, PeerDescription } from "../protocol/messages.ts";
import { proveConnector, type Refusal } from "./connector-proof.ts";
import { TunnelCommands } from "./tunnel-commands.ts";
import {
  type AccessFailure,
  failureOfClose,
  newPair,
  OPEN_TIMEOUT,
  type Pair,
  PROTOCOL_VIOLATION,
  SILENCE_MAX,
  serviceOf,
  TIMED_OUT,
  TUNNEL_CONNECT_TIMEOUT,
  type TunnelReport,
} from "./tunnel-report.ts";

export interface TunnelBookOptions {
  readonly judgeConnector: JudgePeer;
  readonly issueConnection: () => ConnectionHandle;
  readonly randomHex: RandomHex;
  readonly features: readonly string[];
}

export class TunnelBook {
  readonly #options: TunnelBookOptions;
  readonly #pairs = new Map<string, Pair>();
  readonly #byConnection = new Map<ConnectionHandle, Pair>();
  readonly #commands = new TunnelCommands();
  readonly #frames: PacedFrames;
  readonly #reports: TunnelReport[] = [];
  #pairsIssued = 0;

  constructor(options: TunnelBookOptions) {
    this.#options = options;
    this.#frames = new PacedFrames({
      pacerOf: (connection) => this.pairOf(connection)?.tunnel?.pacer,
      take: (event, now) => this.#takeFrame(event, now),
      exceed: (connection) => this.#exceedRate(connection),
    });
  }

  get pairs(): Iterable<Pair> {
    return this.#pairs.values();
  }

  /** Returns the pair that a session with `peer` belongs to, with the session's path added. */
  join(peer: PeerDescription, relay: number, path: RelayedPath): Result<Pair, string> {
    const key = `${peer.identity} ${peer.instance}`;
    const known = this.#pairs.get(key);
    if (known !== undefined && known.spki !== peer.spki) {
      return err(`the relay names key ${peer.spki} for a connector with key ${known.spki}`);
    }

    if (known === undefined) this.#pairsIssued += 1;
    const pair = known ?? newPair(this.#pairsIssued, key, peer);
    this.#pairs.set(key, pair);
    const old = pair.paths.get(relay);
    if (old !== undefined && old.receiveId !== path.receiveId)
      this.#commands.closeChannel(old.receiveId);
    pair.paths.set(relay, path);
    this.#commands.openPath(pair, path);
    return ok(pair);
  }

  /** Uses `service` over the pair's tunnel, which is dialled if there is none. */
  open(pair: Pair, service: string, session: string, now: Instant): void {
    if (!this.#isLive(pair) || pair.services.has(service)) return;

    pair.services.set(service, { session, state: "waiting" });
    if (pair.tunnel === undefined) this.#connect(pair, now);
    else if (pair.tunnel.peer !== undefined) this.#openService(pair, service, now);
  }

  /** Stops using `service` over this pair and cuts its flows. */
  drop(pair: Pair, service: string, code: number = FLOW_SESSION_ENDED): void {
    const opened = pair.services.get(service);
    if (!this.#isLive(pair) || opened === undefined) return;

    pair.services.delete(service);
    if (opened.state === "open") this.#commands.revoke(pair, service, code);
    if (pair.services.size === 0) this.#end(pair, CloseCode.NO_ERROR, "no service left");
  }

  /** New flows of `service` go into this pair's tunnel again. */
  grantAgain(pair: Pair, service: string): void {
    if (pair.services.get(service)?.state === "open") this.#commands.grant(pair, service);
  }

  /** Returns whose tunnel it is. */
  pairOf(connection: ConnectionHandle): Pair | undefined {
    return this.#byConnection.get(connection);
  }

  /** A leg was replaced: its relay forwards from the successor's address. */
  handleNewLeg(relay: number, leg: ConnectionHandle): void {
    for (const pair of this.#pairs.values()) {
      const path = pair.paths.get(relay);
      if (path === undefined) continue;
      const moved = movedTo(leg, path);
      pair.paths.set(relay, moved);
      this.#commands.openPath(pair, moved);
    }
  }

  handleHandshake({ connection, leaf }: HandshakeEvent, now: Instant): void {
    const pair = this.#byConnection.get(connection);
    const tunnel = pair?.tunnel;
    if (pair === undefined || tunnel === undefined || tunnel.peer !== undefined) return;

    const peer = proveConnector(this.#options.judgeConnector, leaf, pair);
    if (!peer.ok) {
      this.#refuse(pair, peer.error);
      return;
    }

    tunnel.leaf = leaf;
    tunnel.peer = peer.value;
    tunnel.deadline = undefined;
    this.#commands.push({ type: "admit", connection });
    for (const service of [...pair.services.keys()]) this.#openService(pair, service, now);
  }

  /** Others are trusted from here on: a connector whose leaf does not pass loses its tunnel. */
  handleIdentities(): void {
    for (const pair of [...this.#pairs.values()]) {
      const leaf = pair.tunnel?.leaf;
      const peer = leaf && proveConnector(this.#options.judgeConnector, leaf, pair);
      if (peer?.ok === false) this.#refuse(pair, peer.error);
    }
  }

  handleControl(event: ControlEvent, now: Instant): void {
    this.#frames.handleControl(event, now);
  }

  handleClosed(event: ClosedEvent): void {
    const pair = this.#byConnection.get(event.connection);
    if (pair === undefined) return;

    this.#forgetTunnel(pair);
    this.#lose(pair, failureOfClose(event));
  }

  handleSilent({ tunnel, silent }: TunnelSilentEvent, now: Instant): void {
    const pair = this.#byConnection.get(tunnel);
    if (pair?.tunnel?.peer === undefined || (pair.silentUntil !== undefined) === silent) return;

    pair.silentUntil = silent ? after(now, SILENCE_MAX) : undefined;
    this.#reports.push({ type: "silent", pair, silent });
  }

  handleTimeout(now: Instant): void {
    this.#frames.handleTimeout(now);
    for (const pair of [...this.#pairs.values()]) {
      if (isDue(pair.tunnel?.deadline, now)) {
        this.#giveUp(pair, { ...TIMED_OUT, reason: "no handshake with the connector in time" });
      } else if (isDue(pair.silentUntil, now)) {
        for (const [service, { state }] of pair.services) {
          if (state === "open") this.#commands.revoke(pair, service, FLOW_UNREACHABLE);
        }
        this.#giveUp(pair, { ...TIMED_OUT, reason: "no path answers" });
      } else {
        this.#expireOpens(pair, now);
      }
    }
  }

  pollCommand(): EndpointCommand | undefined {
    return this.#commands.poll();
  }

  pollReport(): TunnelReport | undefined {
    return this.#reports.shift();
  }

  pollTimeout(): Instant | undefined {
    const due = [...this.#pairs.values()].flatMap(({ tunnel, silentUntil, services }) => [
      tunnel?.deadline,
      silentUntil,
      ...[...services.values()].map((opened) => opened.due),
    ]);
    return earliest(...[...due, this.#frames.pollTimeout()].filter((at) => at !== undefined));
  }

  #connect(pair: Pair, now: Instant): void {
    const connection = this.#options.issueConnection();
    const exchange = new CandidateExchange(this.#options.randomHex);
    const deadline = after(now, TUNNEL_CONNECT_TIMEOUT);
    const pacer = connectorPacer();
    pair.tunnel = { connection, exchange, deadline, pacer, peer: undefined, requests: 0 };
    this.#byConnection.set(connection, pair);
    this.#commands.push({ type: "connect-tunnel", connection, pair: pair.id });
  }

  #openService(pair: Pair, service: string, now: Instant): void {
    const { tunnel } = pair;
    const opened = pair.services.get(service);
    if (tunnel?.peer === undefined || opened?.state !== "waiting") return;

    if (!includesService(tunnel.peer.grants.provide, service)) {
      const reason = `${pair.identity} has no certificate for connector.${service}.ztna`;
      const answer = FlowAnswer.NotAvailable;
      this.#failOpen(pair, service, { code: "connector-not-entitled", reason, answer });
      return;
    }

    tunnel.requests += 1;
    opened.state = "asked";
    opened.request = tunnel.requests;
    opened.due = after(now, OPEN_TIMEOUT);
    const { features, randomHex } = this.#options;
    const { request, session } = opened;
    const nonce = randomHex(32);
    this.#commands.send(pair, { type: "open", request, service, session, features, nonce });
  }

  #takeFrame({ connection, frame }: ControlEvent, now: Instant): void {
    const pair = this.#byConnection.get(connection);
    if (pair === undefined) return;

    const message = decodeTunnelMessage(frame);
    if (message.ok) this.#handleMessage(pair, message.value, now);
    else this.#violate(pair, `${message.error.reason}: ${message.error.detail}`);
  }

  #handleMessage(pair: Pair, message: DecodedTunnelMessage, now: Instant): void {
    switch (message.type) {
      case "open-ok":
        this.#handleOpened(pair, message.request);
        return;
      case "failed":
        this.#handleFailed(pair, message.request, message.code, message.reason);
        return;
      case "candidates":
        this.#handleCandidates(pair, message, now);
        return;
      case "close-service":
        this.#handleCloseService(pair, message.service, message.code);
        return;
      case "invalid-request":
        this.#commands.send(pair, failure(message.request, "invalid", message.name));
        return;
      case "unknown-request":
      case "open":
      case "spray":
      case "reauthenticate":
        this.#commands.send(pair, failure(message.request, "unsupported", message.type));
        return;
      default:
        return;
    }
  }

  #handleOpened(pair: Pair, request: number): void {
    const service = serviceOf(pair, request);
    const opened = pair.services.get(service ?? "");
    if (pair.tunnel === undefined || service === undefined || opened === undefined) return;

    opened.state = "open";
    opened.due = undefined;
    const { connection, exchange } = pair.tunnel;
    this.#commands.grant(pair, service);
    this.#reports.push({ type: "opened", pair, service });
    if (exchange.started) return;

    const candidates = exchange.next([]);
    const { ufrag, password } = candidates;
    const credentials = { ufrag, password };
    // The data plane knows the credentials before the peer can use them.
    this.#commands.push({ type: "set-local-credentials", tunnel: connection, credentials });
    this.#commands.send(pair, candidates);
  }

  #handleFailed(pair: Pair, request: number, code: string, reason: string): void {
    const service = serviceOf(pair, request);
    if (service === undefined) return;

    const detail = `the connector refused ${service}: ${reason}`;
    this.#failOpen(pair, service, { code, reason: detail, answer: FlowAnswer.NotAvailable });
  }

  #handleCandidates(pair: Pair, message: Candidates, now: Instant): void {
    if (pair.tunnel === undefined) return;
    const remote = pair.tunnel.exchange.handleCandidates(message, now);
    if (typeof remote === "string") return;

    this.#commands.push({ type: "set-candidates", tunnel: pair.tunnel.connection, ...remote });
  }

  #handleCloseService(pair: Pair, service: string, code: keyof typeof CloseCode): void {
    if (!pair.services.has(service)) return;

    this.drop(pair, service);
    this.#reports.push({ type: "service-closed", pair, service, code });
  }

  #expireOpens(pair: Pair, now: Instant): void {
    for (const [service, { due }] of pair.services) {
      if (!isDue(due, now)) continue;
      const reason = `the connector did not answer for ${service}`;
      this.#failOpen(pair, service, { ...TIMED_OUT, reason });
    }
  }

  #failOpen(pair: Pair, service: string, failed: AccessFailure): void {
    this.#reports.push({ type: "open-failed", pair, service, failure: failed });
    this.drop(pair, service);
  }

  #refuse(pair: Pair, { code, reason }: Refusal): void {
    const detail = `refused the connector: ${reason}`;
    const answer = FlowAnswer.NotAvailable;
    this.#closeTunnel(pair, code, "certificate does not fit this session");
    this.#lose(pair, { code: "connector-refused", reason: detail, answer });
  }

  #exceedRate(connection: ConnectionHandle): void {
    const pair = this.#byConnection.get(connection);
    if (pair !== undefined)
      this.#violate(pair, "too many control frames", CloseCode.LIMIT_EXCEEDED);
  }

  #violate(pair: Pair, reason: string, code: number = CloseCode.PROTOCOL_VIOLATION): void {
    this.#giveUp(pair, { code: PROTOCOL_VIOLATION, reason, answer: FlowAnswer.Unreachable }, code);
  }

  #giveUp(pair: Pair, failed: AccessFailure, code: number = CloseCode.NO_ERROR): void {
    this.#closeTunnel(pair, code, failed.reason);
    this.#lose(pair, failed);
  }

  /** The tunnel is gone: so are its grants, and every service over it. */
  #lose(pair: Pair, failed: AccessFailure): void {
    const services = [...pair.services.keys()];
    pair.services.clear();
    this.#end(pair, CloseCode.NO_ERROR, failed.reason);
    this.#reports.push({ type: "pair-lost", pair, services, failure: failed });
  }

  #end(pair: Pair, code: number, reason: string): void {
    this.#closeTunnel(pair, code, reason);
    for (const { receiveId } of pair.paths.values()) this.#commands.closeChannel(receiveId);
    this.#pairs.delete(pair.key);
  }

  #closeTunnel(pair: Pair, code: number, reason: string): void {
    if (pair.tunnel === undefined) return;
    const { connection } = pair.tunnel;
    this.#forgetTunnel(pair);
    this.#commands.close(connection, code, reason);
  }

  #forgetTunnel(pair: Pair): void {
    if (pair.tunnel !== undefined) this.#byConnection.delete(pair.tunnel.connection);
    pair.tunnel = undefined;
    pair.silentUntil = undefined;
  }

  #isLive(pair: Pair): boolean {
    return this.#pairs.get(pair.key) === pair;
  }
}
