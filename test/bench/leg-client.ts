/**
 * A client of a relay that has legs and no tunnels: what the benchmarks of the relay load it with.
 *
 * One client is one socket and one data plane. It may have many legs, each of another identity: two
 * instances of one identity behind one address would take turns (`docs/protocol.md` §5).
 */
import { randomBytes } from "node:crypto";
import type { LegRequest } from "../../src/leg/relay-leg.ts";
import { decodeLegMessage, encodeControl } from "../../src/protocol/control-codec.ts";
import type { LegMessage, SessionOffer } from "../../src/protocol/messages.ts";
import type {
  ConnectionHandle,
  Endpoint,
  EndpointEvent,
  TlsMaterial,
} from "../../src/transport/endpoint.ts";
import { openNativeEndpoint } from "../../src/transport/native-endpoint.ts";

export interface BenchLeg {
  readonly instance: string;
  /** From the first packet to the relay's proof, and to its `welcome`. */
  readonly handshakeMs: number;
  readonly welcomeMs: number;
  /** Sends a request and returns its answer; a refusal is an error. */
  request(message: LegRequest): Promise<LegMessage>;
}

export class LegClient {
  readonly #endpoint: Endpoint;
  readonly #legs = new Map<ConnectionHandle, LegState>();

  constructor(role: "agent" | "connector", listen: string) {
    this.#endpoint = openNativeEndpoint(
      { role, listen: [listen], resetKey: randomBytes(32), allowLoopback: true, limits: {} },
      (events) => {
        for (const event of events) this.#handleEvent(event);
      },
    );
  }

  get address(): string {
    return this.#endpoint.localAddresses[0] ?? "";
  }

  issueChannelId(): string {
    return this.#endpoint.issueChannelId();
  }

  openLeg(tls: TlsMaterial, relay: string): Promise<BenchLeg> {
    const connection = this.#endpoint.issueConnectionHandle();
    this.#endpoint.send({ type: "set-tls", ...tls });
    this.#endpoint.send({ type: "connect-leg", connection, remote: relay });
    const state: LegState = {
      instance: randomBytes(16).toString("hex"),
      startedAt: performance.now(),
      handshakeMs: 0,
      opened: Promise.withResolvers(),
      answers: new Map(),
      requests: 0,
    };
    this.#legs.set(connection, state);
    return state.opened.promise;
  }

  #handleEvent(event: EndpointEvent): void {
    if (event.type === "command-failed") throw new Error(`${event.code}: ${event.message}`);
    if (!("connection" in event)) return;
    const { connection } = event;
    const state = this.#legs.get(connection);
    if (state === undefined) return;

    if (event.type === "handshake") {
      state.handshakeMs = performance.now() - state.startedAt;
      this.#endpoint.send({ type: "admit", connection });
      this.#send(connection, {
        type: "hello",
        instance: state.instance,
        attempt: 1,
        features: [],
        nonce: randomBytes(32).toString("hex"),
        software: "ztna bench",
      });
    } else if (event.type === "control") {
      this.#handleFrame(connection, state, event.frame);
    } else if (event.type === "closed") {
      const error = new Error(`a leg was closed by ${event.by}: ${event.code} ${event.reason}`);
      state.opened.reject(error);
      for (const it of state.answers.values()) it.reject(error);
    }
  }

  #handleFrame(connection: ConnectionHandle, state: LegState, frame: Uint8Array): void {
    const decoded = decodeLegMessage(frame);
    if (!decoded.ok) throw new Error(decoded.error.detail);
    const message = decoded.value;
    if (message.type === "welcome") {
      const welcomeMs = performance.now() - state.startedAt;
      state.opened.resolve({
        instance: state.instance,
        handshakeMs: state.handshakeMs,
        welcomeMs,
        request: (request) => this.#request(connection, state, request),
      });
    } else if (message.type === "session-offer") {
      this.#accept(connection, message);
    } else if (message.type === "failed") {
      state.answers.get(message.request)?.reject(new Error(`${message.code}: ${message.reason}`));
    } else if (message.type === "register-ok" || message.type === "session-open-ok") {
      state.answers.get(message.request)?.resolve(message);
    }
  }

  #request(
    connection: ConnectionHandle,
    state: LegState,
    message: LegRequest,
  ): Promise<LegMessage> {
    state.requests += 1;
    const answer = Promise.withResolvers<LegMessage>();
    state.answers.set(state.requests, answer);
    this.#send(connection, { ...message, request: state.requests } as LegMessage);
    return answer.promise;
  }

  #accept(connection: ConnectionHandle, { request }: SessionOffer): void {
    const channelId = this.issueChannelId();
    this.#send(connection, { type: "session-offer-ok", request, channelId });
  }

  #send(connection: ConnectionHandle, message: LegMessage): void {
    this.#endpoint.send({ type: "send-control", connection, frame: encodeControl(message) });
  }
}

interface LegState {
  readonly instance: string;
  readonly startedAt: number;
  handshakeMs: number;
  readonly opened: PromiseWithResolvers<BenchLeg>;
  readonly answers: Map<number, PromiseWithResolvers<LegMessage>>;
  requests: number;
}
