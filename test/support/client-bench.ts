/** A machine of an agent or a connector with its relays and its data plane fed by hand. */
import type { AgentOutput } from "../../src/agent/agent-state.ts";
import type { StateMachine } from "../../src/base/state-machine.ts";
import { after, type Instant, instant, ms } from "../../src/base/time.ts";
import type { ConnectorOutput } from "../../src/connector/connector-values.ts";
import type {
  ClosedEvent,
  ControlEvent,
  EndpointCommand,
  HandshakeEvent,
} from "../../src/leg/endpoint-port.ts";
import { relayJudge } from "../../src/leg/judge.ts";
import type { ConfiguredRelay } from "../../src/leg/relay-legs.ts";
import type { IdentityConfig, LeafInfo } from "../../src/policy/identity.ts";
import {
  decodeLegMessage,
  decodeTunnelMessage,
  encodeControl,
} from "../../src/protocol/control-codec.ts";
import type { LegMessage, TunnelMessage } from "../../src/protocol/messages.ts";

export const EPOCH = "e".repeat(64);
export const OTHER_EPOCH = "d".repeat(64);
/** The key of whoever is at the other end of the tunnel. */
export const SPKI = "5".repeat(64);

export const TRUST: IdentityConfig = {
  trustDomains: ["example"],
  spiffe: new Map(),
  identities: new Map(),
};

/** What a reload may leave of {@link TRUST}. */
export const NO_TRUST: IdentityConfig = { ...TRUST, trustDomains: ["other.example"] };

type ClientOutput = AgentOutput | ConnectorOutput;
type ClientInput = HandshakeEvent | ControlEvent | ClosedEvent;

export class ClientBench<
  Input,
  Output extends ClientOutput,
  State extends StateMachine<Input | ClientInput, Output>,
> {
  readonly state: State;
  now: Instant = START;
  /** Drained so far. */
  readonly outputs: Output[] = [];
  readonly #legs = new Map<number, number>();

  constructor(state: State) {
    this.state = state;
  }

  /** Feeds an input and returns what it caused. */
  feed(input: Input | ClientInput): Output[] {
    this.state.handleInput(input, this.now);
    return this.#drain();
  }

  /** Lets time pass, firing what falls due, and returns what that caused. */
  advance(byMs: number): Output[] {
    const end = after(this.now, ms(byMs));
    const caused: Output[] = [];
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

  /** Answers the latest dial to `relay` with a good leaf and `welcome`. */
  welcome(relay = 0, { epoch = EPOCH }: { epoch?: string | undefined } = {}): Output[] {
    const dial = this.outputs.findLast((it) => it.type === "dial" && it.relay === relay);
    if (dial?.type !== "dial") throw new Error("no dial");
    const { connection } = dial;
    this.#legs.set(relay, connection);
    const leaf = relayLeaf();
    const caused = this.feed({ type: "handshake", connection, kind: "leg", accepted: false, leaf });
    return [...caused, ...this.fromRelay(welcomeMessage(epoch), relay)];
  }

  fromRelay(message: LegMessage, relay = 0): Output[] {
    const connection = this.leg(relay);
    return this.feed({ type: "control", connection, frame: encodeControl(message) });
  }

  /** What the other end of the tunnel says. */
  fromPeer(message: TunnelMessage, connection: number): Output[] {
    return this.feed({ type: "control", connection, frame: encodeControl(message) });
  }

  leg(relay = 0): number {
    return this.#legs.get(relay) ?? -1;
  }

  loseLeg(relay = 0): Output[] {
    const closed = { by: "idle-timeout", code: 0, application: false, reason: "" } as const;
    return this.feed({ type: "closed", connection: this.leg(relay), ...closed });
  }

  sentTo(relay: number): LegMessage[] {
    return legMessages(this.outputs, this.leg(relay));
  }

  #drain(): Output[] {
    const drained: Output[] = [];
    for (let next = this.state.pollOutput(); next; next = this.state.pollOutput()) {
      drained.push(next);
    }
    this.outputs.push(...drained);
    return drained;
  }
}

export const START: Instant = instant(0);

/** Relays "r1.example", "r2.example" …, all with a certificate for relay.example. */
export function relays(count = 1, trust: () => IdentityConfig = () => TRUST): ConfiguredRelay[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `r${index + 1}.example:4433`,
    judge: relayJudge("relay.example", trust),
  }));
}

/** What every machine of these benches is made with; channel ids grow from `firstChannelId`. */
export function sources(firstChannelId: number) {
  let connection = 0;
  let channel = 0;
  return {
    software: "ztna/test",
    issueConnection: () => ++connection,
    issueChannelId: () => (firstChannelId + 2 * channel++).toString(16).padStart(16, "0"),
    randomHex: (octets: number) => "ab".repeat(octets),
    random: () => 0.5,
  };
}

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

export function commands<Type extends EndpointCommand["type"]>(
  outputs: readonly ClientOutput[],
  type: Type,
): Extract<EndpointCommand, { type: Type }>[] {
  return outputs
    .flatMap((it) => (it.type === "command" ? [it.command] : []))
    .filter((it): it is Extract<EndpointCommand, { type: Type }> => it.type === type);
}

export function events(outputs: readonly ClientOutput[]) {
  return outputs.flatMap((it) => (it.type === "event" ? [it.event] : []));
}

export function legMessages(outputs: readonly ClientOutput[], connection: number): LegMessage[] {
  return commands(outputs, "send-control")
    .filter((it) => it.connection === connection)
    .map(({ frame }) => decodeLegMessage(frame))
    .flatMap((it) => (it.ok ? [it.value as LegMessage] : []));
}

export function tunnelMessages(
  outputs: readonly ClientOutput[],
  connection: number,
): TunnelMessage[] {
  return commands(outputs, "send-control")
    .filter((it) => it.connection === connection)
    .map(({ frame }) => decodeTunnelMessage(frame))
    .flatMap((it) => (it.ok ? [it.value as TunnelMessage] : []));
}

export function welcomeMessage(epoch: string = EPOCH): LegMessage {
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
