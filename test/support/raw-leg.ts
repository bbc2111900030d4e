/** A leg with a relay and nothing behind it: asks what a test wants, whatever the relay has listed. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { decodeLegMessage, encodeControl } from "../../src/protocol/control-codec.ts";
import type { LegMessage } from "../../src/protocol/messages.ts";
import type { ConnectionHandle, Endpoint, EndpointEvent } from "../../src/transport/endpoint.ts";
import { openNativeEndpoint } from "../../src/transport/native-endpoint.ts";
import { type Deployment, HERE } from "./deployment.ts";
import { eventually } from "./eventually.ts";

export interface Answer {
  /** Without the number of the request. */
  readonly message: Readonly<Record<string, unknown>>;
  readonly ms: number;
}

export class RawLeg {
  readonly #endpoint: Endpoint;
  readonly #connection: ConnectionHandle;
  readonly #waiting = new Map<number, (message: LegMessage) => void>();
  #requests = 0;
  #welcomed = false;

  private constructor(deployment: Deployment, name: string, relay: string) {
    const options = {
      role: "agent",
      listen: [`${HERE.host}:0`],
      resetKey: randomBytes(32),
      allowLoopback: true,
      limits: {},
    } as const;
    this.#endpoint = openNativeEndpoint(options, (events) => {
      for (const event of events) this.#take(event);
    });
    this.#connection = this.#endpoint.issueConnectionHandle();
    const read = (file: string) => readFileSync(deployment.file(file));
    const [chainPem, keyPem, rootsPem] = [read(`${name}.crt`), read(`${name}.key`), read("ca.crt")];
    this.#endpoint.send({ type: "set-tls", chainPem, keyPem, rootsPem, revoked: [] });
    this.#endpoint.send({ type: "connect-leg", connection: this.#connection, remote: relay });
  }

  /** Returns when the relay has welcomed the owner of the certificate `name`. */
  static async open(deployment: Deployment, name: string, relay: string): Promise<RawLeg> {
    const leg = new RawLeg(deployment, name, relay);
    await eventually("a welcome", { withinMs: 5000 }, () => leg.#welcomed || undefined);
    return leg;
  }

  openSession(service: string): Promise<Answer> {
    this.#requests += 1;
    const request = this.#requests;
    const channelId = this.#endpoint.issueChannelId();
    const startedAt = performance.now();
    const answer = new Promise<Answer>((resolve) => {
      this.#waiting.set(request, (message) => {
        const { request: _, ...rest } = { request, ...message };
        resolve({ message: rest, ms: performance.now() - startedAt });
      });
    });
    this.#send({ type: "session-open", request, service, channelId, avoid: [] });
    return answer;
  }

  close(): Promise<void> {
    return this.#endpoint.close(0, "the test is over");
  }

  #take(event: EndpointEvent): void {
    if (event.type === "handshake") {
      this.#endpoint.send({ type: "admit", connection: this.#connection });
      const [instance, nonce] = [randomBytes(16).toString("hex"), randomBytes(32).toString("hex")];
      this.#send({ type: "hello", instance, attempt: 1, features: [], nonce, software: "test" });
    }
    if (event.type !== "control") return;

    const decoded = decodeLegMessage(event.frame);
    if (!decoded.ok) throw new Error(`the relay said what nobody understands: ${decoded.error}`);
    const message = decoded.value as LegMessage;
    if (message.type === "welcome") this.#welcomed = true;
    if ("request" in message) this.#waiting.get(message.request)?.(message);
  }

  #send(message: LegMessage): void {
    const frame = encodeControl(message);
    this.#endpoint.send({ type: "send-control", connection: this.#connection, frame });
  }
}
