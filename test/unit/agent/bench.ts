/** An agent machine with everything around it fed by hand: relays, a connector, the data plane. */

import { type AgentInput, type AgentOutput, AgentState } from "../../../src/agent/agent-state.ts";
import { after, type Instant, instant, ms } from "../../../src/base/time.ts";
import type { EndpointCommand } from "../../../src/leg/endpoint-port.ts";
import { connectorJudge, relayJudge } from "../../../src/leg/judge.ts";
import type { IdentityConfig, LeafInfo } from "../../../src/policy/identity.ts";
import {
  decodeLegMessage,
  decodeTunnelMessage,
  encodeControl,
} from "../../../src/protocol/control-codec.ts";
import type { LegMessage, SessionOpenOk, TunnelMessage } from "../../../src/protocol/messages.ts";

export const EPOCH = "e".repeat(64);
export const SPKI = "5".repeat(64);
export const INSTANCE = "c".repeat(32);
export const CONNECTOR = "ztna://example/connector/edge-1";
export const TUNNEL_HELLO = "a".repeat(64);

const CONFIG: IdentityConfig = {
  trustDomains: ["example"],
  spiffe: new Map(),
  identities: new Map(),
};

export function relayLeaf(changes: Partial<LeafInfo> = {}): LeafInfo {
  return {
    spkiSha256: "1".repeat(64),
    issuer: "30",
    serial: "01",
    uris: ["ztna://example/relay/r1"],
    dnsNames: ["relay.example"],
    ipAddresses: [],
    clientAuth: false,
    serverAuth: true,
    notAfter: 2_000_000_000,
    ...changes,
  };
}

export function connectorLeaf(changes: Partial<LeafInfo> = {}): LeafInfo {
  return relayLeaf({
    spkiSha256: SPKI,
    uris: [CONNECTOR],
    dnsNames: ["connector.echo.ztna", "connector.web.ztna"],
    clientAuth: true,
    ...changes,
  });
}

export class AgentBench {
  readonly state: AgentState;
  now: Instant = instant(0);
  /** Drained so far. */
  readonly outputs: AgentOutput[] = [];
  readonly #legs = new Map<number, number>();

  constructor(options: { relays?: number; warm?: readonly string[]; sessionsMax?: number } = {}) {
    let connection = 0;
    let channel = 0;
    this.state = new AgentState(
      {
        instance: "a".repeat(32),
        software: "ztna/test",
        relays: Array.from({ length: options.relays ?? 1 }, (_, index) => ({
          name: `r${index + 1}.example:4433`,
          judge: relayJudge("relay.example", () => CONFIG),
        })),
        judgeConnector: connectorJudge(() => CONFIG),
        issueConnection: () => ++connection,
        issueChannelId: () => (0x10_00_01 + 2 * channel++).toString(16).padStart(16, "0"),
        randomHex: (octets) => "ab".repeat(octets),
        random: () => 0.5,
        servicesMax: 4096,
        sessionsMax: options.sessionsMax ?? 256,
        warm: options.warm ?? [],
      },
      this.now,
    );
  }

  /** Feeds an input and returns what it caused. */
  feed(input: AgentInput): AgentOutput[] {
    this.state.handleInput(input, this.now);
    return this.#drain();
  }

  /** Lets time pass, firing what falls due, and returns what that caused. */
  advance(byMs: number): AgentOutput[] {
    const end = after(this.now, ms(byMs));
    const caused: AgentOutput[] = [];
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

  start(): AgentOutput[] {
    return this.feed({ type: "start" });
  }

  /** Answers the latest dial to `relay` with a good leaf and `welcome`. */
  welcome(relay = 0, { epoch = EPOCH }: { epoch?: string } = {}): AgentOutput[] {
    const dial = this.outputs.findLast((it) => it.type === "dial" && it.relay === relay);
    if (dial?.type !== "dial") throw new Error("no dial");
    const { connection } = dial;
    this.#legs.set(relay, connection);
    const leaf = relayLeaf();
    const caused = this.feed({ type: "handshake", connection, kind: "leg", accepted: false, leaf });
    caused.push(...this.fromRelay(welcomeMessage(epoch), relay));
    return caused;
  }

  fromRelay(message: LegMessage, relay = 0): AgentOutput[] {
    const connection = this.#legs.get(relay) ?? -1;
    return this.feed({ type: "control", connection, frame: encodeControl(message) });
  }

  list(names: readonly string[], relay = 0, generation = 1): AgentOutput[] {
    const services = names.map((name) => ({ name, ports: [] }));
    return this.fromRelay({ type: "services", generation, part: 0, last: true, services }, relay);
  }

  /** A started agent whose relays welcomed it and list `services`. */
  ready(services: readonly string[] = ["echo", "web"], relays = 1): this {
    this.start();
    for (let relay = 0; relay < relays; relay++) {
      this.welcome(relay);
      this.list(services, relay);
    }
    return this;
  }

  leg(relay = 0): number {
    return this.#legs.get(relay) ?? -1;
  }

  loseLeg(relay = 0): AgentOutput[] {
    const connection = this.leg(relay);
    return this.feed({ type: "closed", connection, ...{ by: "idle-timeout", code: 0 }, ...QUIC });
  }

  /** The latest session-open that was sent to `relay`. */
  asked(relay = 0): Extract<LegMessage, { type: "session-open" }> {
    const found = this.sentTo(relay).findLast((it) => it.type === "session-open");
    if (found?.type !== "session-open") throw new Error("no session-open");
    return found;
  }

  sentTo(relay: number): LegMessage[] {
    return legMessages(this.outputs, this.leg(relay));
  }

  /** Answers the latest session-open. */
  grantSession(relay = 0, changes: Partial<SessionOpenOk> = {}): AgentOutput[] {
    const { request, service, channelId } = this.asked(relay);
    return this.fromRelay(
      {
        type: "session-open-ok",
        request,
        session: sessionOf(service, relay),
        service,
        connector: peer(),
        channelId,
        paths: [{ relay: "relay.example:4433", channel: `000000000000${relay}0f1`, rate: 0 }],
        leaseMs: 3_600_000,
        ...changes,
      },
      relay,
    );
  }

  get tunnel(): number {
    return last(commands(this.outputs, "connect-tunnel"))?.connection ?? -1;
  }

  handshake(leaf: LeafInfo = connectorLeaf(), connection = this.tunnel): AgentOutput[] {
    return this.feed({ type: "handshake", connection, kind: "tunnel", accepted: false, leaf });
  }

  fromConnector(message: TunnelMessage, connection = this.tunnel): AgentOutput[] {
    return this.feed({ type: "control", connection, frame: encodeControl(message) });
  }

  get opens(): Extract<TunnelMessage, { type: "open" }>[] {
    return tunnelMessages(this.outputs, this.tunnel).filter((it) => it.type === "open");
  }

  openOk(request = last(this.opens)?.request ?? -1): AgentOutput[] {
    const nonce = TUNNEL_HELLO;
    return this.fromConnector({ type: "open-ok", request, features: [], nonce, ports: [] });
  }

  /** The whole way for one service. */
  granted(service = "echo"): this {
    this.feed({ type: "wanted", service });
    this.grantSession();
    this.handshake();
    this.openOk();
    return this;
  }

  closeTunnel(code: number, connection = this.tunnel): AgentOutput[] {
    const closed = { by: "peer", code, application: true, reason: "" } as const;
    return this.feed({ type: "closed", connection, ...closed });
  }

  flow(change: "opened" | "closed", service = "echo"): AgentOutput[] {
    const bytes = { bytesUp: 0, bytesDown: 0 };
    return this.feed({ type: "flow", tunnel: this.tunnel, service, change, ...bytes });
  }

  access(service: string) {
    return [...this.state.view.sessions.accesses].find((it) => it.service === service);
  }

  #drain(): AgentOutput[] {
    const drained: AgentOutput[] = [];
    for (let next = this.state.pollOutput(); next; next = this.state.pollOutput()) {
      drained.push(next);
    }
    this.outputs.push(...drained);
    return drained;
  }
}

const QUIC = { application: false, reason: "" } as const;

export function peer(changes: Partial<SessionOpenOk["connector"]> = {}) {
  const observed = "203.0.113.9:4434";
  return { identity: CONNECTOR, spki: SPKI, instance: INSTANCE, observed, ...changes };
}

export function sessionOf(service: string, relay = 0): string {
  return Buffer.from(`${relay}${service}`).toString("hex").padEnd(32, "0").slice(0, 32);
}

export function commands<Type extends EndpointCommand["type"]>(
  outputs: readonly AgentOutput[],
  type: Type,
): Extract<EndpointCommand, { type: Type }>[] {
  return outputs
    .flatMap((it) => (it.type === "command" ? [it.command] : []))
    .filter((it): it is Extract<EndpointCommand, { type: Type }> => it.type === type);
}

export function events(outputs: readonly AgentOutput[]) {
  return outputs.flatMap((it) => (it.type === "event" ? [it.event] : []));
}

export function legMessages(outputs: readonly AgentOutput[], connection: number): LegMessage[] {
  return commands(outputs, "send-control")
    .filter((it) => it.connection === connection)
    .map(({ frame }) => decodeLegMessage(frame))
    .flatMap((it) => (it.ok ? [it.value as LegMessage] : []));
}

export function tunnelMessages(
  outputs: readonly AgentOutput[],
  connection: number,
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
    observed: "198.51.100.7:5000",
    limits: {
      services: 4096,
      sessions: 256,
      channels: 1024,
      framesPerSecond: 64,
      framesBurst: 256,
    },
    stun: { username: "0".repeat(16), password: "0".repeat(32), addresses: [] },
  };
}

function last<T>(items: readonly T[]): T | undefined {
  return items.at(-1);
}
