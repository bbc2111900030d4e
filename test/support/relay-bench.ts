/** A relay's state machine with its surroundings: peers that speak, a clock that is told. */
import { after, type Duration, type Instant, instant, seconds } from "../../src/base/time.ts";
import { EMPTY_TABLE, type PolicyTable } from "../../src/policy/engine.ts";
import type { IdentityConfig, LeafInfo } from "../../src/policy/identity.ts";
import { encodeControl } from "../../src/protocol/control-codec.ts";
import type { LegMessage } from "../../src/protocol/messages.ts";
import { MemoryRegistry } from "../../src/relay/registry.ts";
import { RelayState } from "../../src/relay/relay-state.ts";
import type {
  HowClosed,
  RelayEvent,
  RelayInput,
  RelayLimits,
  RelayOutput,
  RelaySettings,
  Revocation,
} from "../../src/relay/relay-values.ts";

export const T0: Instant = instant(1_000_000);
export const TRUST: IdentityConfig = {
  trustDomains: ["corp.example"],
  spiffe: new Map(),
  identities: new Map(),
};

export const LIMITS: RelayLimits = {
  servicesPerConnector: 256,
  servicesPerAgent: 4096,
  sessionsPerAgent: 256,
  channelsPerAgentLeg: 1024,
  channelsPerConnectorLeg: 65_536,
  legsPerIdentity: 64,
  framesPerSecond: 64,
  framesBurst: 256,
};

export interface BenchOptions {
  readonly limits?: Partial<RelayLimits>;
  readonly settings?: Partial<RelaySettings>;
  readonly policy?: PolicyTable;
  readonly revocations?: readonly Revocation[];
  /** In [0, 1): the choice among connectors. */
  readonly randomUnit?: () => number;
}

export class RelayBench {
  readonly state: RelayState;
  /** Ids that the relay has for channels, and had. */
  readonly channelIds: Set<string> = new Set();
  readonly outputs: RelayOutput[] = [];
  now: Instant = T0;
  #serial = 0;
  #connection = 0;

  constructor({ limits, settings, policy, revocations, randomUnit }: BenchOptions = {}) {
    this.state = new RelayState({
      settings: {
        relay: "relay.example:4433",
        epoch: "e".repeat(64),
        stunAddresses: ["192.0.2.1:4433"],
        leaseMs: 3_600_000,
        channelRateBps: 0,
        ...settings,
        limits: { ...LIMITS, ...limits },
      },
      sources: {
        randomHex: (octets) => hex(++this.#serial, octets * 2),
        randomUnit: randomUnit ?? (() => 0),
        issueChannelId: () => {
          const id = hex(++this.#serial * 2 + 1, 16);
          this.channelIds.add(id);
          return id;
        },
      },
      registry: new MemoryRegistry(),
      policy: policy ?? EMPTY_TABLE,
      identities: TRUST,
      revocations: revocations ?? [],
    });
  }

  feed(input: RelayInput): void {
    this.state.handleInput(input, this.now);
    this.#drain();
  }

  /** Lets time pass, with every deadline on the way. */
  advance(by: Duration): void {
    const end = after(this.now, by);
    for (let due = this.state.pollTimeout(); due !== undefined && due <= end; ) {
      this.now = instant(Math.max(this.now, due));
      this.state.handleTimeout(this.now);
      this.#drain();
      due = this.state.pollTimeout();
    }
    this.now = end;
  }

  /** Takes what came out since the last call. */
  take(): RelayOutput[] {
    return this.outputs.splice(0);
  }

  events(): RelayEvent[] {
    return this.outputs.flatMap((output) => (output.type === "event" ? [output.event] : []));
  }

  dial(leaf: LeafInfo, remote: string, lifetime: Duration = seconds(86_400)): BenchLeg {
    const connection = ++this.#connection;
    const expiresAt = after(this.now, lifetime);
    this.feed({ type: "handshake", connection, remote, leaf, expiresAt });
    return new BenchLeg(this, connection);
  }

  /** A leg that has been welcomed. */
  join(leaf: LeafInfo, options: JoinOptions = {}): BenchLeg {
    const { instance = hex(this.#connection + 1, 32), attempt = 1 } = options;
    const remote = options.remote ?? `198.51.100.1:${40_000 + this.#connection}`;
    const leg = this.dial(leaf, remote, options.lifetime);
    leg.send({ ...HELLO, instance, attempt });
    leg.instance = instance;
    return leg;
  }

  connector(name: string, services: readonly string[], options: JoinOptions = {}): BenchLeg {
    const leg = this.join(connectorLeaf(name, services), options);
    leg.register(services);
    return leg;
  }

  agent(name: string, services: readonly string[], options: JoinOptions = {}): BenchLeg {
    return this.join(agentLeaf(name, services), options);
  }

  #drain(): void {
    for (let output = this.state.pollOutput(); output !== undefined; ) {
      this.outputs.push(output);
      output = this.state.pollOutput();
    }
  }
}

export interface JoinOptions {
  readonly instance?: string;
  readonly attempt?: number;
  readonly remote?: string;
  readonly lifetime?: Duration;
}

export class BenchLeg {
  instance = "";
  /** As the data plane measures it with the next frame. */
  rttUs: number | undefined;
  readonly connection: number;
  readonly #bench: RelayBench;
  #request = 100;

  constructor(bench: RelayBench, connection: number) {
    this.#bench = bench;
    this.connection = connection;
  }

  send(message: LegMessage): void {
    this.sendBytes(encodeControl(message));
  }

  sendBytes(frame: Uint8Array): void {
    const { connection, rttUs } = this;
    this.#bench.feed({ type: "frame", connection, frame, rttUs });
  }

  close(how: HowClosed, detail?: string): void {
    const reason = detail === undefined ? {} : { detail };
    this.#bench.feed({ type: "closed", connection: this.connection, how, ...reason });
  }

  register(services: readonly string[], sessions: readonly string[] = []): void {
    const ports = [{ protocol: "tcp", port: 80 }] as const;
    this.send({
      type: "register",
      request: this.#request++,
      services: services.map((name) => ({ name, ports, weight: 100 })),
      sessions,
      revocationsSeen: 0,
    });
  }

  /** Asks for a session and returns the number of the request. */
  open(service: string, more: Partial<Extract<LegMessage, { type: "session-open" }>> = {}): number {
    const request = this.#request++;
    const channelId = `a${request.toString(16).padStart(13, "0")}01`;
    this.send({ type: "session-open", request, service, channelId, avoid: [], ...more });
    return request;
  }

  /** Takes the offer that came last. */
  accept(channelId = "c00000000000000b"): void {
    const { request } = this.last("session-offer");
    this.send({ type: "session-offer-ok", request, channelId });
  }

  /** Does not take the offer that came last. */
  refuse(): void {
    const { request } = this.last("session-offer");
    this.send({ type: "failed", request, code: "refused", reason: "" });
  }

  /** What was sent to this leg, of one type. */
  got<Type extends LegMessage["type"]>(type: Type): Extract<LegMessage, { type: Type }>[] {
    return this.messages().filter(
      (message): message is Extract<LegMessage, { type: Type }> => message.type === type,
    );
  }

  last<Type extends LegMessage["type"]>(type: Type): Extract<LegMessage, { type: Type }> {
    const message = this.got(type).at(-1);
    if (message === undefined) throw new Error(`no ${type} was sent to this leg`);
    return message;
  }

  messages(): LegMessage[] {
    return this.#bench.outputs.flatMap((output) =>
      output.type === "send" && output.connection === this.connection ? [output.message] : [],
    );
  }

  /** With which code the relay closed this leg. */
  get closeCode(): string | undefined {
    const close = this.#bench.outputs.find(
      (output) => output.type === "close-connection" && output.connection === this.connection,
    );
    return close?.type === "close-connection" ? close.code : undefined;
  }
}

export const HELLO = {
  type: "hello",
  instance: "1".repeat(32),
  attempt: 1,
  features: [],
  nonce: "5".repeat(64),
  software: "ztna test",
} as const;

export function agentLeaf(name: string, services: readonly string[]): LeafInfo {
  return leaf(
    `ztna://corp.example/agent/${name}`,
    services.map((service) => `agent.${service}.ztna`),
  );
}

export function connectorLeaf(name: string, services: readonly string[]): LeafInfo {
  return leaf(
    `ztna://corp.example/connector/${name}`,
    services.map((service) => `connector.${service}.ztna`),
  );
}

/** With both usages; a key that follows from the name. */
export function leaf(uri: string, dnsNames: readonly string[]): LeafInfo {
  return {
    spkiSha256: new Bun.CryptoHasher("sha256").update(uri).digest("hex"),
    issuer: "300d310b3009",
    serial: new Bun.CryptoHasher("sha256").update(uri).digest("hex").slice(0, 16),
    uris: [uri],
    dnsNames,
    ipAddresses: [],
    clientAuth: true,
    serverAuth: true,
    notAfter: 2_000_000_000,
  };
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
