/** The life of a leg: dialled, judged, welcomed, replaced, lost. */
import { describe, expect, test } from "bun:test";
import { ok } from "../../../src/base/result.ts";
import { after, type Instant, instant, ms } from "../../../src/base/time.ts";
import type { ClosedEvent, EndpointCommand } from "../../../src/leg/endpoint-port.ts";
import {
  type LegOutput,
  REQUEST_TIMEOUT,
  REQUESTS_PENDING_MAX,
  RelayLeg,
} from "../../../src/leg/relay-leg.ts";
import { NO_GRANTS } from "../../../src/policy/grants.ts";
import type { LeafInfo } from "../../../src/policy/identity.ts";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { decodeLegMessage, encodeControl } from "../../../src/protocol/control-codec.ts";
import type { LegMessage } from "../../../src/protocol/messages.ts";

describe("relay leg", () => {
  test("dials at once and gives each attempt up when the next is due", () => {
    const leg = new Bench();

    expect(leg.start()).toMatchObject([{ type: "dial", connection: 1, attempt: 1 }]);
    expect(leg.advance(250)).toMatchObject([
      { command: { type: "close-connection", connection: 1, code: CloseCode.SUPERSEDED } },
      { type: "attempt-failed" },
      { type: "dial", connection: 2, attempt: 2 },
    ]);
  });

  test("an attempt that failed early waits for its time", () => {
    const leg = new Bench();
    leg.start();

    expect(leg.close(1)).toMatchObject([{ type: "attempt-failed", refused: false }]);
    expect(leg.advance(249)).toEqual([]);
    expect(leg.advance(1)).toMatchObject([{ type: "dial", connection: 2 }]);
  });

  test.each([
    { name: "a TLS alert of either side", by: "local", code: 0x1_30, application: false },
    { name: "UNAUTHENTICATED", by: "peer", code: CloseCode.UNAUTHENTICATED, application: true },
    { name: "FORBIDDEN", by: "peer", code: CloseCode.FORBIDDEN, application: true },
    { name: "REVOKED", by: "peer", code: CloseCode.REVOKED, application: true },
  ] as const)("an attempt that ends with $name was refused", ({ name: _, ...end }) => {
    const leg = new Bench();
    leg.start();

    expect(leg.close(1, end)).toMatchObject([{ type: "attempt-failed", refused: true }]);
  });

  test.each([
    { name: "QUIC's own error", by: "peer", code: 0x0a, application: false },
    { name: "the end of the relay", by: "peer", code: CloseCode.SHUTTING_DOWN, application: true },
  ] as const)("an attempt that ends with $name was not refused", ({ name: _, ...end }) => {
    const leg = new Bench();
    leg.start();

    expect(leg.close(1, end)).toMatchObject([{ type: "attempt-failed", refused: false }]);
  });

  test("a leg whose framing the data plane did not take is told as a violation", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const violation = { code: CloseCode.PROTOCOL_VIOLATION, application: true } as const;

    expect(leg.close(leg.connection, { by: "local", ...violation })).toMatchObject([
      { type: "violation" },
      { type: "lost" },
    ]);
    leg.advance(0);
    expect(leg.close(leg.connection, { by: "peer", ...violation })).not.toMatchObject([
      { type: "violation" },
    ]);
  });

  test("is ready when welcomed, and says whether the relay has another epoch", () => {
    const leg = new Bench();
    leg.start();

    expect(leg.welcome("a")).toMatchObject([{ type: "ready", newEpoch: false }]);
    leg.advance(6000);
    leg.close(leg.connection);
    leg.advance(0);
    expect(leg.welcome("a")).toMatchObject([{ type: "ready", newEpoch: false }]);
    leg.advance(6000);
    leg.close(leg.connection);
    leg.advance(0);
    expect(leg.welcome("b")).toMatchObject([{ type: "ready", newEpoch: true }]);
  });

  test("each hello has a higher attempt", () => {
    const leg = new Bench();
    leg.start();
    leg.advance(750);
    leg.welcome("a");

    const hello = leg.sent.findLast((it) => it.type === "hello");
    expect(hello).toMatchObject({ attempt: 3, instance: "a".repeat(32) });
  });

  test.each([
    { name: "anything else before welcome", message: { type: "observed", address: "192.0.2.1:1" } },
    { name: "a hello", message: { ...hello(), type: "hello" } },
  ] as const)("$name breaks the protocol", ({ message }) => {
    const leg = new Bench();
    leg.start();
    leg.handshake();

    expect(leg.receive(message as LegMessage)).toMatchObject([
      { command: { type: "close-connection", code: CloseCode.PROTOCOL_VIOLATION } },
      { type: "violation" },
      { type: "attempt-failed" },
    ]);
  });

  test("a second welcome breaks the protocol", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");

    expect(leg.receive(welcome("a"))).toMatchObject([
      { command: { type: "close-connection", code: CloseCode.PROTOCOL_VIOLATION } },
      { type: "violation" },
      { type: "lost" },
    ]);
  });

  test("a silent leg stays in use until its successor is ready, then ends as superseded", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const old = leg.connection;
    leg.advance(10_000);

    expect(
      leg.feed((it, now) => it.handleLegSilent({ type: "leg-silent", connection: old }, now)),
    ).toMatchObject([{ type: "dial" }]);
    expect(leg.leg.connection).toBe(old);

    expect(leg.welcome("a")).toMatchObject([
      { type: "ready" },
      { command: { type: "close-connection", connection: old, code: CloseCode.SUPERSEDED } },
    ]);
    expect(leg.leg.connection).not.toBe(old);
  });

  test("a leg that is lost while its successor is dialled does not start over", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const old = leg.connection;
    leg.advance(10_000);
    leg.feed((it, now) => it.handleLegSilent({ type: "leg-silent", connection: old }, now));

    expect(leg.close(old)).toMatchObject([{ type: "lost" }]);
  });

  test("a relay that welcomes and drops is dialled ever more slowly", () => {
    const leg = new Bench();
    leg.start();
    const waits: number[] = [];
    for (let round = 0; round < 8; round++) {
      leg.welcome("a");
      leg.close(leg.connection);
      const lostAt = leg.now;
      while (!leg.advance(1).some(({ type }) => type === "dial"));
      waits.push(leg.now - lostAt);
    }

    expect(waits).toEqual([250, 250, 500, 1000, 2000, 2000, 2000, 2000]);
  });

  test("a leg that lasted is dialled again at once", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    leg.advance(5000);
    leg.close(leg.connection);

    expect(leg.advance(0)).toMatchObject([{ type: "dial" }]);
  });

  test("a request is answered once, and later answers come too late", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const request = leg.register();
    const answer = registerOk(request);

    expect(leg.receive(answer)).toEqual([{ type: "answered", request, answer }]);
    expect(leg.receive(answer)).toEqual([{ type: "late-answer", answer }]);
  });

  test("a request ends unanswered with its time", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const request = leg.register();

    expect(leg.advance(REQUEST_TIMEOUT - 1)).toEqual([]);
    expect(leg.advance(1)).toMatchObject([{ type: "unanswered", request }]);
  });

  test("a request is void when its leg is lost", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const request = leg.register();

    expect(leg.close(leg.connection)).toMatchObject([
      { type: "unanswered", request },
      { type: "lost" },
    ]);
  });

  test("takes as many requests as allowed and not one more", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    for (let count = 0; count < REQUESTS_PENDING_MAX; count++) {
      expect(leg.register()).toBe(count + 1);
    }

    expect(leg.register()).toBe(-1);
  });

  test("without a leg nothing is sent and nothing is asked", () => {
    const leg = new Bench();
    leg.start();

    expect(leg.register()).toBe(-1);
    expect(leg.leg.send({ type: "observed", address: "192.0.2.1:1" })).toBe(false);
  });

  test("a frame that is no message costs the leg", () => {
    const leg = new Bench();
    leg.start();
    leg.welcome("a");
    const { connection } = leg;
    const frame = new TextEncoder().encode('{"type":"observed"}');

    expect(
      leg.feed((it, now) => it.handleControl({ type: "control", connection, frame }, now)),
    ).toMatchObject([
      { command: { type: "close-connection", code: CloseCode.PROTOCOL_VIOLATION } },
      { type: "violation" },
      { type: "lost" },
    ]);
  });
});

class Bench {
  now: Instant = instant(0);
  readonly leg: RelayLeg;
  readonly sent: LegMessage[] = [];
  connection = 0;

  constructor() {
    let connections = 0;
    this.leg = new RelayLeg(
      {
        ...{ instance: "a".repeat(32), software: "ztna/test", features: [] },
        judgeRelay: () =>
          ok({
            identity: { uri: "ztna://e/relay/r", trustDomain: "e", role: "relay", name: "r" },
            ...{ spki: "", issuer: "", serial: "", grants: NO_GRANTS, notAfter: 0 },
          }),
        issueConnection: () => ++connections,
        randomHex: (octets) => "ab".repeat(octets),
        random: () => 0.5,
      },
      this.now,
    );
  }

  start(): LegOutput[] {
    return this.feed((it, now) => it.handleStart(now));
  }

  feed(input: (leg: RelayLeg, now: Instant) => void): LegOutput[] {
    input(this.leg, this.now);
    const outputs: LegOutput[] = [];
    for (let next = this.leg.pollOutput(); next; next = this.leg.pollOutput()) outputs.push(next);
    for (const output of outputs) {
      if (output.type === "dial") this.connection = output.connection;
      if (output.type === "command") this.#note(output.command);
    }
    return outputs;
  }

  advance(byMs: number): LegOutput[] {
    const end = after(this.now, ms(byMs));
    const caused: LegOutput[] = [];
    for (;;) {
      const due = this.leg.pollTimeout();
      if (due === undefined || due > end) break;
      this.now = instant(Math.max(this.now, due));
      caused.push(...this.feed((it, now) => it.handleTimeout(now)));
    }
    this.now = end;
    return caused;
  }

  handshake(): LegOutput[] {
    const { connection } = this;
    const event = { connection, kind: "leg", accepted: false, leaf: {} as LeafInfo } as const;
    return this.feed((it) => it.handleHandshake({ type: "handshake", ...event }));
  }

  welcome(epoch: string): LegOutput[] {
    this.handshake();
    return this.receive(welcome(epoch));
  }

  receive(message: LegMessage): LegOutput[] {
    const { connection } = this;
    const frame = encodeControl(message);
    return this.feed((it, now) => it.handleControl({ type: "control", connection, frame }, now));
  }

  close(connection: number, end: Partial<ClosedEvent> = {}): LegOutput[] {
    const closed = { by: "idle-timeout", code: 0, application: false, reason: "", ...end } as const;
    return this.feed((it, now) => it.handleClosed({ ...closed, type: "closed", connection }, now));
  }

  register(): number {
    const body = { type: "register", services: [], sessions: [], revocationsSeen: 0 } as const;
    const request = this.leg.request(body, this.now) ?? -1;
    this.feed(() => {});
    return request;
  }

  #note(command: EndpointCommand): void {
    if (command.type !== "send-control") return;
    const message = decodeLegMessage(command.frame);
    if (message.ok) this.sent.push(message.value as LegMessage);
  }
}

function hello() {
  const nonce = "f".repeat(64);
  return { instance: "a".repeat(32), attempt: 1, features: [], nonce, software: "" };
}

function welcome(epoch: string): LegMessage {
  return {
    ...{ type: "welcome", relay: "r.example:4433", epoch: epoch.repeat(64), features: [] },
    ...{ nonce: "f".repeat(64), observed: "198.51.100.7:5000" },
    limits: { services: 1, sessions: 1, channels: 1, framesPerSecond: 1, framesBurst: 1 },
    stun: { username: "0".repeat(16), password: "0".repeat(32), addresses: [] },
  };
}

function registerOk(request: number) {
  return {
    ...{ type: "register-ok", request, accepted: [], rejected: [], close: [], revoked: [] },
  } as const satisfies LegMessage;
}
