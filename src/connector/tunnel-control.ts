/**
 * What an admitted agent says on its tunnel's stream 0, as fast as agents may say it.
 *
 * Every refusal of `open` is `not-available` with the same words: a service that does not exist, one
 * that the certificate does not grant and one without a session look alike.
 */
import type { Instant } from "../base/time.ts";
import type {
  ConnectionHandle,
  ControlEvent,
  EndpointCommand,
  RandomHex,
} from "../leg/endpoint-port.ts";
import { PacedFrames } from "../leg/paced-frames.ts";
import { failure } from "../leg/relay-leg.ts";
import { includesService } from "../policy/grants.ts";
import { decodeTunnelMessage, encodeControl } from "../protocol/control-codec.ts";
import type {
  Candidates,
  DecodedTunnelMessage,
  Open,
  RegisteredService,
  TunnelMessage,
} from "../protocol/messages.ts";
import type { AccessTable } from "./access-table.ts";
import { hasSession, type TunnelOfPair } from "./agent-pair.ts";
import type { AccessRule, ConnectorEvent } from "./connector-event.ts";

type Services = ReadonlyMap<string, RegisteredService>;

export interface TunnelControlOptions {
  readonly randomHex: RandomHex;
  readonly features: readonly string[];
  /** What is provided here. */
  readonly services: () => Services;
}

export class TunnelControl {
  readonly #access: AccessTable;
  readonly #randomHex: RandomHex;
  readonly #features: readonly string[];
  readonly #services: () => Services;
  readonly #frames: PacedFrames;
  readonly #events: ConnectorEvent[] = [];

  constructor(access: AccessTable, options: TunnelControlOptions) {
    this.#access = access;
    this.#randomHex = options.randomHex;
    this.#features = options.features;
    this.#services = options.services;
    this.#frames = new PacedFrames({
      pacerOf: (connection) => access.pairOf(connection)?.tunnel.pacer,
      take: (event, now) => this.#takeFrame(event, now),
      exceed: (connection) => this.#exceedRate(connection),
    });
  }

  handleControl(event: ControlEvent, now: Instant): void {
    this.#frames.handleControl(event, now);
  }

  handleTimeout(now: Instant): void {
    this.#frames.handleTimeout(now);
  }

  pollTimeout(): Instant | undefined {
    return this.#frames.pollTimeout();
  }

  pollEvent(): ConnectorEvent | undefined {
    return this.#events.shift();
  }

  #takeFrame({ connection, frame }: ControlEvent, now: Instant): void {
    const tunnel = this.#access.pairOf(connection);
    if (tunnel === undefined) return;

    const message = decodeTunnelMessage(frame);
    if (message.ok) {
      this.#handleMessage(tunnel, message.value, now);
    } else {
      const { reason, detail } = message.error;
      this.#access.violate(tunnel, `${reason}: ${detail}`);
    }
  }

  #exceedRate(connection: ConnectionHandle): void {
    const tunnel = this.#access.pairOf(connection);
    if (tunnel === undefined) return;
    this.#access.violate(tunnel, "too many control frames", "LIMIT_EXCEEDED");
  }

  #handleMessage(tunnel: TunnelOfPair, message: DecodedTunnelMessage, now: Instant): void {
    switch (message.type) {
      case "open":
        this.#handleOpen(tunnel, message);
        return;
      case "candidates":
        this.#handleCandidates(tunnel, message, now);
        return;
      case "close-service":
        this.#access.release(tunnel, message.service);
        return;
      case "invalid-request":
        this.#send(tunnel, failure(message.request, "invalid", message.name));
        return;
      case "unknown-request":
      case "spray":
      case "reauthenticate":
        this.#send(tunnel, failure(message.request, "unsupported", message.type));
        return;
      default:
        return;
    }
  }

  #handleOpen(tunnel: TunnelOfPair, { request, service }: Open): void {
    const offered = this.#services().get(service);
    const missing = whatIsMissing(tunnel, service, offered);
    this.#audit(tunnel, service, missing);
    if (missing !== undefined || offered === undefined) {
      this.#send(tunnel, failure(request, "not-available", "not available"));
      return;
    }

    this.#access.grant(tunnel, service);
    const nonce = this.#randomHex(32);
    const { ports } = offered;
    this.#send(tunnel, { type: "open-ok", request, features: this.#features, nonce, ports });
    this.#sendCandidates(tunnel);
  }

  /** Once a tunnel: checks on relayed paths need the credentials, so an empty list is sent too. */
  #sendCandidates(tunnel: TunnelOfPair): void {
    const { connection, exchange } = tunnel.tunnel;
    if (exchange.started) return;

    const candidates = exchange.next([]);
    const { ufrag, password } = candidates;
    const credentials = { ufrag, password };
    this.#command({ type: "set-local-credentials", tunnel: connection, credentials });
    this.#send(tunnel, candidates);
  }

  #handleCandidates({ tunnel }: TunnelOfPair, message: Candidates, now: Instant): void {
    const remote = tunnel.exchange.handleCandidates(message, now);
    if (typeof remote === "string") return;
    this.#command({ type: "set-candidates", tunnel: tunnel.connection, ...remote });
  }

  #audit({ pair }: TunnelOfPair, service: string, missing: AccessRule | undefined): void {
    const decision = missing === undefined ? "allow" : "deny";
    const rule = missing ?? "granted";
    const { identity } = pair;
    this.#events.push({ type: "access", identity, service, decision, rule });
  }

  #send({ tunnel }: TunnelOfPair, message: TunnelMessage): void {
    const { connection } = tunnel;
    this.#command({ type: "send-control", connection, frame: encodeControl(message) });
  }

  #command(command: EndpointCommand): void {
    this.#access.command(command);
  }
}

function whatIsMissing(
  { pair, tunnel }: TunnelOfPair,
  service: string,
  offered: RegisteredService | undefined,
): AccessRule | undefined {
  if (offered === undefined) return "service";
  if (!includesService(tunnel.peer.grants.use, service)) return "certificate";
  return hasSession(pair, tunnel.peer.spki, service) ? undefined : "session";
}
