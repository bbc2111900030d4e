/**
 * Relays, connectors and agents with a data plane made of tables: their machines talk to each other.
 *
 * Every message takes {@link LATENCY}. A leg is a pair of handles, a channel the relay's table of ids,
 * a tunnel a pair of handles found by walking over a path, a channel and a path. What machines ask of
 * the data plane is carried out or, if it makes no sense, recorded in `faults`.
 */
import { type AgentInput, AgentState } from "../../src/agent/agent-state.ts";
import { after, type Instant, instant, ms } from "../../src/base/time.ts";
import { ConnectorState } from "../../src/connector/connector-state.ts";
import type { ConnectorInput } from "../../src/connector/connector-values.ts";
import type { EndpointCommand } from "../../src/leg/endpoint-port.ts";
import { agentJudge, connectorJudge, relayJudge } from "../../src/leg/judge.ts";
import { EMPTY_TABLE, type PolicyTable } from "../../src/policy/engine.ts";
import type { IdentityConfig, LeafInfo } from "../../src/policy/identity.ts";
import { CloseCode } from "../../src/protocol/close-codes.ts";
import { encodeControl } from "../../src/protocol/control-codec.ts";
import { MemoryRegistry } from "../../src/relay/registry.ts";
import { RelayState } from "../../src/relay/relay-state.ts";
import type { RelayInput } from "../../src/relay/relay-values.ts";
import { closedInput, leafOf, type Machine, type Output, Process } from "./control-process.ts";

export const LATENCY = ms(10);

/** As the data plane's first probe time-out, with its initial RTT of 100 ms. */
const INITIAL_AGAIN = ms(300);

const CONFIG: IdentityConfig = {
  trustDomains: ["example"],
  spiffe: new Map(),
  identities: new Map(),
};

export class ControlWorld {
  now: Instant = instant(0);
  readonly faults: string[] = [];
  readonly #random: () => number;
  readonly #queue: { readonly at: Instant; readonly run: () => void }[] = [];
  readonly #processes: Process[] = [];
  /** Relays by their number in every configuration. */
  readonly #relays: (Process | undefined)[] = [];
  /** Legs whose handshake is under way. */
  readonly #dialling = new Set<number>();
  #handles = 0;
  #ids = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  relay(number: number, policy: PolicyTable = EMPTY_TABLE): Process {
    const settings = {
      ...{ relay: `r${number}.example:4433`, epoch: this.#hex(32), stunAddresses: [] },
      ...{ leaseMs: 3_600_000, channelRateBps: 0 },
      limits: {
        ...{ servicesPerConnector: 256, servicesPerAgent: 4096, sessionsPerAgent: 256 },
        ...{ channelsPerAgentLeg: 1024, channelsPerConnectorLeg: 65_536, legsPerIdentity: 64 },
        ...{ framesPerSecond: 64, framesBurst: 256 },
      },
    };
    const machine = new RelayState({
      settings,
      ...{ registry: new MemoryRegistry(), policy, identities: CONFIG, revocations: [] },
      sources: {
        randomHex: (octets) => this.#hex(octets),
        randomUnit: this.#random,
        issueChannelId: () => this.#channelId(),
      },
    });
    const process = this.#add(`relay ${number}`, leafOf("relay", `r${number}`, []), machine);
    this.#relays[number] = process;
    return process;
  }

  connector(name: string, services: readonly string[], relays: number): Process {
    const grants = services.map((service) => `connector.${service}.ztna`);
    const machine = new ConnectorState(
      {
        ...this.#common(relays),
        judgeAgent: agentJudge(() => CONFIG),
        services: services.map((service) => ({ name: service, ports: [], weight: 100 })),
        sessionsMax: 65_536,
      },
      this.now,
    );
    const process = this.#add(name, leafOf("connector", name, grants), machine);
    this.#feed(process, { type: "start" });
    return process;
  }

  agent(name: string, services: readonly string[], relays: number): Process {
    const grants = services.map((service) => `agent.${service}.ztna`);
    const machine = new AgentState(
      {
        ...this.#common(relays),
        judgeConnector: connectorJudge(() => CONFIG),
        ...{ servicesMax: 4096, sessionsMax: 256, warm: [] },
      },
      this.now,
    );
    const process = this.#add(name, leafOf("agent", name, grants), machine);
    this.#feed(process, { type: "start" });
    return process;
  }

  want(agent: Process, service: string): void {
    this.#feed(agent, { type: "wanted", service });
  }

  /** A flow begins in whichever tunnel serves the service. */
  use(agent: Process, service: string): void {
    const tunnel = Number(
      [...agent.granted].find((it) => it.endsWith(` ${service}`))?.split(" ")[0],
    );
    const sums = { count: 1, bytesUp: 0, bytesDown: 0 };
    this.#feed(agent, { type: "flow", tunnel, service, change: "opened", ...sums });
  }

  /** All paths of all tunnels of the agent fall silent, or answer again. */
  silence(agent: Process, silent: boolean): void {
    const tunnels = new Set([...agent.granted].map((it) => Number(it.split(" ")[0])));
    for (const tunnel of tunnels) this.#feed(agent, { type: "tunnel-silent", tunnel, silent });
  }

  configure(relay: Process, policy: PolicyTable): void {
    this.#feed(relay, { type: "configure", policy, identities: CONFIG });
  }

  revoke(relay: Process, spki: string): void {
    this.#feed(relay, { type: "revoke", name: { spki } });
  }

  /** Ends a process without a word; its peers find out after `noticedMs`. */
  kill(process: Process, noticedMs: number): void {
    process.alive = false;
    for (const [, { peer, handle }] of process.links) {
      this.#later(ms(noticedMs), () => {
        peer.links.delete(handle);
        this.#dropGrants(peer, handle);
        const closed = { by: "idle-timeout", code: 0, application: false, reason: "" } as const;
        this.#feed(peer, closedInput(peer, handle, closed));
      });
    }
    process.links.clear();
  }

  /** Lets time pass until nothing is due before its end. */
  run(byMs: number): void {
    const end = after(this.now, ms(byMs));
    for (let steps = 0; ; steps++) {
      if (steps > 200_000) throw new Error("the world does not come to rest");
      const at = this.#nextAt();
      if (at === undefined || at > end) break;
      this.now = instant(Math.max(this.now, at));
      this.#step();
    }
    this.now = end;
  }

  #step(): void {
    const index = this.#queue.findIndex(({ at }) => at <= this.now);
    if (index >= 0) {
      this.#queue.splice(index, 1)[0]?.run();
      return;
    }
    for (const process of this.#processes) {
      const due = process.alive ? process.machine.pollTimeout() : undefined;
      if (due === undefined || due > this.now) continue;
      process.machine.handleTimeout(this.now);
      this.#drain(process);
    }
  }

  #nextAt(): Instant | undefined {
    const due = this.#processes
      .filter(({ alive }) => alive)
      .map(({ machine }) => machine.pollTimeout());
    const all = [...this.#queue.map(({ at }) => at), ...due.filter((at) => at !== undefined)];
    return all.length === 0 ? undefined : instant(Math.min(...all));
  }

  #feed(process: Process, input: RelayInput | ConnectorInput | AgentInput): void {
    if (!process.alive) return;
    (process.machine as { handleInput(it: typeof input, now: Instant): void }).handleInput(
      input,
      this.now,
    );
    this.#drain(process);
  }

  #drain(process: Process): void {
    const { machine } = process;
    for (let output = machine.pollOutput(); output; output = machine.pollOutput()) {
      process.outputs.push({ at: this.now, output });
      this.#execute(process, output);
    }
  }

  #execute(process: Process, output: Output): void {
    switch (output.type) {
      case "command":
        this.#command(process, output.command);
        return;
      case "dial":
        this.#dial(process, output.relay, output.connection);
        return;
      case "send":
        this.#deliver(process, output.connection, encodeControl(output.message));
        return;
      case "close-connection":
        this.#close(process, output.connection, CloseCode[output.code], output.reason);
        return;
      case "open-channel": {
        const { a, b } = output;
        process.channels.set(a.relayId, b);
        process.channels.set(b.relayId, a);
        return;
      }
      case "close-channel": {
        const other = process.channels.get(output.channel);
        process.channels.delete(output.channel);
        for (const [id, side] of process.channels) {
          if (side.clientId !== other?.clientId && process.channels.get(id) === other) {
            process.channels.delete(id);
          }
        }
        return;
      }
      default:
        return;
    }
  }

  #command(process: Process, command: EndpointCommand): void {
    switch (command.type) {
      case "send-control":
        this.#deliver(process, command.connection, command.frame);
        return;
      case "close-connection":
        this.#close(process, command.connection, command.code, command.reason);
        return;
      case "open-relayed-path":
        if (!process.links.has(command.leg)) this.faults.push(`${process.name}: path over no leg`);
        process.paths.set(command.receiveId, command);
        return;
      case "close-channel":
        process.paths.delete(command.channel);
        return;
      case "connect-tunnel":
        this.#connectTunnel(process, command.connection, command.pair);
        return;
      case "grant":
        if (!process.links.has(command.tunnel))
          this.faults.push(`${process.name}: grant on nothing`);
        process.granted.add(`${command.tunnel} ${command.service}`);
        return;
      case "revoke":
        process.granted.delete(`${command.tunnel} ${command.service}`);
        return;
      default:
        return;
    }
  }

  #dial(client: Process, number: number, connection: number): void {
    this.#dialling.add(connection);
    this.#sendInitial(client, number, connection);
  }

  /** An Initial that nobody answers is sent again, until the attempt is given up. */
  #sendInitial(client: Process, number: number, connection: number): void {
    this.#later(ms(2 * LATENCY), () => {
      const relay = this.#relays[number];
      if (!client.alive || !this.#dialling.has(connection)) return;
      if (relay?.alive !== true) {
        this.#later(INITIAL_AGAIN, () => this.#sendInitial(client, number, connection));
        return;
      }
      this.#dialling.delete(connection);
      const handle = this.#link(client, connection, relay);
      const remote = `198.51.100.${1 + this.#processes.indexOf(client)}:4434`;
      const expiresAt = after(this.now, ms(86_400_000));
      this.#feed(relay, {
        type: "handshake",
        connection: handle,
        remote,
        leaf: client.leaf,
        expiresAt,
      });
      const leg = { type: "handshake", kind: "leg", accepted: false, connection } as const;
      this.#feed(client, { ...leg, leaf: relay.leaf });
    });
  }

  #connectTunnel(agent: Process, connection: number, pair: number): void {
    this.#later(ms(3 * LATENCY), () => {
      const target = this.#walk(agent, pair);
      if (target === undefined) return;
      const handle = this.#link(agent, connection, target.connector);
      const tunnel = { type: "handshake", kind: "tunnel" } as const;
      const dialled = { accepted: false, connection, pair, leaf: target.connector.leaf };
      this.#feed(agent, { ...tunnel, ...dialled });
      const accepted = { accepted: true, connection: handle, pair: target.pair, leaf: agent.leaf };
      this.#feed(target.connector, { ...tunnel, ...accepted });
    });
  }

  /** Follows the pair's first path that leads anywhere. */
  #walk(agent: Process, pair: number) {
    for (const path of [...agent.paths.values()].filter((it) => it.pair === pair)) {
      const relay = agent.links.get(path.leg)?.peer;
      const side = relay?.alive ? relay.channels.get(path.sendId) : undefined;
      const connector = side === undefined ? undefined : relay?.links.get(side.leg)?.peer;
      const found = connector?.paths.get(side?.clientId ?? "");
      if (connector?.alive && found !== undefined) return { connector, pair: found.pair };
    }
    return undefined;
  }

  #link(from: Process, connection: number, to: Process): number {
    const handle = this.#handle();
    from.links.set(connection, { peer: to, handle });
    to.links.set(handle, { peer: from, handle: connection });
    return handle;
  }

  #deliver(from: Process, connection: number, frame: Uint8Array): void {
    const link = from.links.get(connection);
    if (link === undefined) return;
    const { peer, handle } = link;
    this.#later(LATENCY, () => {
      if (!peer.links.has(handle)) return;
      const type = peer.machine instanceof RelayState ? "frame" : "control";
      this.#feed(peer, { type, connection: handle, frame } as never);
    });
  }

  #close(from: Process, connection: number, code: number, reason: string): void {
    const link = from.links.get(connection);
    this.#dialling.delete(connection);
    from.links.delete(connection);
    this.#dropGrants(from, connection);
    if (link === undefined) return;
    this.#later(LATENCY, () => {
      if (!link.peer.links.delete(link.handle)) return;
      this.#dropGrants(link.peer, link.handle);
      const closed = { by: "peer", code, application: true, reason } as const;
      this.#feed(link.peer, closedInput(link.peer, link.handle, closed));
    });
  }

  #dropGrants(process: Process, connection: number): void {
    for (const grant of [...process.granted]) {
      if (grant.startsWith(`${connection} `)) process.granted.delete(grant);
    }
  }

  #common(relays: number) {
    return {
      instance: this.#hex(16),
      software: "ztna/sim",
      relays: Array.from({ length: relays }, (_, number) => ({
        name: `r${number}.example:4433`,
        judge: relayJudge(`r${number}.example`, () => CONFIG),
      })),
      issueConnection: () => this.#handle(),
      issueChannelId: () => this.#channelId(),
      randomHex: (octets: number) => this.#hex(octets),
      random: this.#random,
    };
  }

  #add(name: string, leaf: LeafInfo, machine: Machine): Process {
    const process = new Process(name, leaf, machine);
    this.#processes.push(process);
    return process;
  }

  #later(wait: number, run: () => void): void {
    this.#queue.push({ at: instant(this.now + wait), run });
  }

  #handle(): number {
    this.#handles += 1;
    return this.#handles;
  }

  #channelId(): string {
    this.#ids += 2;
    return (this.#ids + 1).toString(16).padStart(16, "0");
  }

  #hex(octets: number): string {
    const digit = () => Math.floor(this.#random() * 16).toString(16);
    return Array.from({ length: octets * 2 }, digit).join("");
  }
}
