/** A connector machine with everything around it fed by hand: relays, agents, the data plane. */
import { after, type Instant, instant, ms } from "../../../src/base/time.ts";
import { ConnectorState } from "../../../src/connector/connector-state.ts";
import type { ConnectorInput, ConnectorOutput } from "../../../src/connector/connector-values.ts";
import type { EndpointCommand } from "../../../src/leg/endpoint-port.ts";
import { agentJudge, relayJudge } from "../../../src/leg/judge.ts";
import type { IdentityConfig, LeafInfo } from "../../../src/policy/identity.ts";
import {
  decodeLegMessage,
  decodeTunnelMessage,
  encodeControl,
} from "../../../src/protocol/control-codec.ts";
import type {
  LegMessage,
  Register,
  RegisterOk,
  SessionOffer,
  TunnelMessage,
} from "../../../src/protocol/messages.ts";

export const EPOCH = "e".repeat(64);
export const OTHER_EPOCH = "d".repeat(64);
export const SPKI = "5".repeat(64);
export const ALICE = "ztna://example/agent/alice";

const CONFIG: IdentityConfig = {
  trustDomains: ["example"],
  spiffe: new Map(),
  identities: new Map(),
};

export function leaf(changes: Partial<LeafInfo> = {}): LeafInfo {
  return {
    spkiSha256: SPKI,
    issuer: "30",
    serial: "01",
    uris: [ALICE],
    dnsNames: ["agent.echo.ztna"],
    ipAddresses: [],
    clientAuth: true,
    serverAuth: false,
    notAfter: 2_000_000_000,
    ...changes,
  };
}

const RELAY_LEAF = leaf({
  ...{ spkiSha256: "1".repeat(64), uris: ["ztna://example/relay/r1"] },
  ...{ dnsNames: ["relay.example"], clientAuth: false, serverAuth: true },
});

export const SERVICES = ["echo", "web"].map((name) => ({
  name,
  ports: [{ protocol: "tcp", port: 80 } as const],
  weight: 100,
}));

export class ConnectorBench {
  readonly state: ConnectorState;
  now: Instant = instant(0);
  /** Drained so far. */
  readonly outputs: ConnectorOutput[] = [];
  readonly #legs = new Map<number, number>();
  #requests = 0;

  constructor(options: { relays?: number; sessionsMax?: number } = {}) {
    let connection = 0;
    let channel = 0;
    this.state = new ConnectorState(
      {
        instance: "c".repeat(32),
        software: "ztna/test",
        relays: Array.from({ length: options.relays ?? 1 }, (_, index) => ({
          name: `r${index + 1}.example:4433`,
          judge: relayJudge("relay.example", () => CONFIG),
        })),
        services: SERVICES,
        judgeAgent: agentJudge(() => CONFIG),
        issueConnection: () => ++connection,
        issueChannelId: () => (0x20_00_01 + 2 * channel++).toString(16).padStart(16, "0"),
        randomHex: (octets) => "ab".repeat(octets),
        random: () => 0.5,
        sessionsMax: options.sessionsMax ?? 65_536,
      },
      this.now,
    );
  }

  /** Feeds an input and returns what it caused. */
  feed(input: ConnectorInput): ConnectorOutput[] {
    this.state.handleInput(input, this.now);
    return this.#drain();
  }

  /** Lets time pass, firing what falls due, and returns what that caused. */
  advance(byMs: number): ConnectorOutput[] {
    const end = after(this.now, ms(byMs));
    const caused: ConnectorOutput[] = [];
    for (let due = this.state.pollTimeout(); due !== undefined && due <= end; ) {
      this.now = instant(Math.max(due, this.now));
      this.state.handleTimeout(this.now);
      caused.push(...this.#drain());
      const next = this.state.pollTimeout();
      if (next !== undefined && next <= this.now) throw new Error("a timeout changed nothing");
      due = next;
    }
    this.now = end;
    return caused;
  }

  /** A started connector that its relays welcomed and registered. */
  ready(relays = 1): this {
    this.feed({ type: "start" });
    for (let relay = 0; relay < relays; relay++) {
      this.welcome(relay);
      this.registerOk(relay);
    }
    return this;
  }

  /** Answers the latest dial to `relay` with a good leaf and `welcome`. */
  welcome(relay = 0, epoch = EPOCH): ConnectorOutput[] {
    const dial = this.outputs.findLast((it) => it.type === "dial" && it.relay === relay);
    if (dial?.type !== "dial") throw new Error("no dial");
    const { connection } = dial;
    this.#legs.set(relay, connection);
    const handshake = { connection, kind: "leg", accepted: false, leaf: RELAY_LEAF } as const;
    const caused = this.feed({ type: "handshake", ...handshake });
    return [...caused, ...this.fromRelay(welcomeMessage(epoch), relay)];
  }

  registered(relay = 0): Register {
    const found = this.sentTo(relay).findLast((it) => it.type === "register");
    if (found?.type !== "register") throw new Error("no register");
    return found;
  }

  registerOk(relay = 0, changes: Partial<RegisterOk> = {}): ConnectorOutput[] {
    const { request, services } = this.registered(relay);
    const accepted = services.map(({ name }) => name);
    const answer = { request, accepted, rejected: [], close: [], revoked: [], ...changes };
    return this.fromRelay({ type: "register-ok", ...answer }, relay);
  }

  fromRelay(message: LegMessage, relay = 0): ConnectorOutput[] {
    return this.feed({
      type: "control",
      connection: this.leg(relay),
      frame: encodeControl(message),
    });
  }

  leg(relay = 0): number {
    return this.#legs.get(relay) ?? -1;
  }

  loseLeg(relay = 0): ConnectorOutput[] {
    const closed = { by: "idle-timeout", code: 0, application: false, reason: "" } as const;
    return this.feed({ type: "closed", connection: this.leg(relay), ...closed });
  }

  sentTo(relay: number): LegMessage[] {
    return legMessages(this.outputs, this.leg(relay));
  }

  offer(changes: Partial<SessionOffer> = {}, relay = 0): ConnectorOutput[] {
    this.#requests += 1;
    const offer: SessionOffer = {
      type: "session-offer",
      request: this.#requests,
      session: "0".repeat(31) + relay,
      service: "echo",
      agent: agent(),
      path: { relay: "relay.example:4433", channel: "00000000000000f1", rate: 0, existing: false },
      leaseMs: 3_600_000,
      ...changes,
    };
    return this.fromRelay(offer, relay);
  }

  /** The number of the agent's pair, from its path. */
  get pair(): number {
    return commands(this.outputs, "open-relayed-path").at(-1)?.pair ?? -1;
  }

  tunnel(changes: Partial<LeafInfo> = {}, connection = 1001): ConnectorOutput[] {
    const { pair } = this;
    const handshake = { connection, kind: "tunnel", accepted: true, pair } as const;
    return this.feed({ type: "handshake", ...handshake, leaf: leaf(changes) });
  }

  fromAgent(message: TunnelMessage, connection = 1001): ConnectorOutput[] {
    return this.feed({ type: "control", connection, frame: encodeControl(message) });
  }

  open(service = "echo", connection = 1001, session = "0".repeat(32)): ConnectorOutput[] {
    const nonce = "a".repeat(64);
    const request = 1;
    return this.fromAgent(
      { type: "open", request, service, session, features: [], nonce },
      connection,
    );
  }

  /** An agent with a session, a tunnel and the service granted. */
  served(): this {
    this.offer();
    this.tunnel();
    this.open();
    return this;
  }

  #drain(): ConnectorOutput[] {
    const drained: ConnectorOutput[] = [];
    for (let next = this.state.pollOutput(); next; next = this.state.pollOutput()) {
      drained.push(next);
    }
    this.outputs.push(...drained);
    return drained;
  }
}

export function agent(changes: Partial<SessionOffer["agent"]> = {}): SessionOffer["agent"] {
  const observed = "203.0.113.9:5000";
  return { identity: ALICE, spki: SPKI, instance: "a".repeat(32), observed, ...changes };
}

export function commands<Type extends EndpointCommand["type"]>(
  outputs: readonly ConnectorOutput[],
  type: Type,
): Extract<EndpointCommand, { type: Type }>[] {
  return outputs
    .flatMap((it) => (it.type === "command" ? [it.command] : []))
    .filter((it): it is Extract<EndpointCommand, { type: Type }> => it.type === type);
}

export function events(outputs: readonly ConnectorOutput[]) {
  return outputs.flatMap((it) => (it.type === "event" ? [it.event] : []));
}

export function legMessages(outputs: readonly ConnectorOutput[], connection: number): LegMessage[] {
  return commands(outputs, "send-control")
    .filter((it) => it.connection === connection)
    .map(({ frame }) => decodeLegMessage(frame))
    .flatMap((it) => (it.ok ? [it.value as LegMessage] : []));
}

export function tunnelMessages(
  outputs: readonly ConnectorOutput[],
  connection = 1001,
): TunnelMessage[] {
  return commands(outputs, "send-control")
    .filter((it) => it.connection === connection)
    .map(({ frame }) => decodeTunnelMessage(frame))
    .flatMap((it) => (it.ok ? [it.value as TunnelMessage] : []));
}

function welcomeMessage(epoch: string): LegMessage {
  return {
    type: "welcome",
    relay: "relay.example:4433",
    epoch,
    features: [],
    nonce: "f".repeat(64),
    observed: "198.51.100.7:4434",
    limits: { services: 256, sessions: 256, channels: 65_536, framesPerSecond: 64, framesBurst: 9 },
    stun: { username: "0".repeat(16), password: "0".repeat(32), addresses: [] },
  };
}
