/**
 * The agent as a process runs it: state machine, data plane, virtual addresses, control socket.
 *
 * - **Nothing is decided here.** Events of the data plane become inputs, outputs become commands.
 * - **Listeners and the device are up before the start is called a success**, so that a port that is
 *   taken is an error of the operator and not a line in a log.
 * - **Nothing is left behind.** Routes go with the device, and the kernel removes it with the process;
 *   a control socket that a killed agent left is replaced.
 */
import { randomBytes } from "node:crypto";
import type { Clock, Instant } from "../base/time.ts";
import { connectorJudge, relayJudge } from "../leg/judge.ts";
import { requireOwnIdentity } from "../leg/own-identity.ts";
import { expectedName, relayAddress } from "../leg/relay-address.ts";
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { Identity, IdentityConfig } from "../policy/identity.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import type { OfferedService } from "../protocol/messages.ts";
import { ClientEndpoint, type ResolveHost } from "../transport/client-endpoint.ts";
import { Driver } from "../transport/driver.ts";
import type { EndpointEvent, EndpointSnapshot, OpenEndpoint } from "../transport/endpoint.ts";
import { machineLimits } from "../transport/machine-limits.ts";
import {
  type LoadedTls,
  loadTlsFiles,
  type TlsFiles,
  takeOver,
  watchTlsFiles,
} from "../transport/tls-files.ts";
import type { AgentConfig } from "./agent-config.ts";
import type { AgentEvent } from "./agent-event.ts";
import { AgentReport } from "./agent-report.ts";
import { type AgentInput, type AgentOutput, AgentState } from "./agent-state.ts";
import { AgentStore } from "./agent-store.ts";
import { type ControlSocket, openControlSocket } from "./control-socket.ts";
import { hostNetworks } from "./host-networks.ts";
import type { Ipv4Network } from "./ipv4-network.ts";
import { listenersOf, packetSourceOf } from "./listeners.ts";
import { Pinger } from "./ping.ts";
import { describePool, type ServiceMap } from "./service-map.ts";
import { type AgentStatus, describeStatus } from "./status.ts";
import { restoreServiceMap } from "./virtual-network.ts";

export interface AgentDependencies {
  readonly openEndpoint: OpenEndpoint;
  readonly clock: Clock;
  readonly wallClock: () => Date;
  readonly logger: Logger;
  /** "ztna/VERSION". */
  readonly software: string;
  /** Where the control socket is unless the configuration says; absent: there is none. */
  readonly controlSocket?: string;
  /** The user that runs this process. */
  readonly uid: number;
  /** Watches the certificate files; a test hands in its own. */
  readonly watchTls?: (files: TlsFiles, onChange: () => void) => () => void;
  readonly resolveHost?: ResolveHost;
  /** Networks that virtual addresses must avoid. */
  readonly hostNetworks?: (ownDevice?: string) => readonly Ipv4Network[];
  /** Whether checks may go to loopback. */
  readonly allowLoopback?: boolean;
}

export interface AgentSnapshot {
  readonly role: RoleFigures<"agent">;
  /** Absent when the data plane did not answer in time. */
  readonly endpoint: EndpointSnapshot | undefined;
}

export interface RunningAgent {
  /** Addresses of the UDP sockets, with the ports that the system chose. */
  readonly addresses: readonly string[];
  /** Resolves with the reason when the agent cannot go on. */
  readonly failed: Promise<string>;
  /** Closes every connection with `SHUTTING_DOWN`. */
  stop(reason: string): Promise<void>;
  /**
   * Takes over changed certificate files and, if given, the parts of the configuration that may
   * change while it runs: trust and listeners.
   *
   * @throws OperatorError when something is wrong with them; nothing has changed then.
   */
  reload(config?: AgentConfig): void;
  snapshot(): Promise<AgentSnapshot>;
  status(): Promise<AgentStatus>;
  /** Why it is not ready, or `undefined` when it is. */
  notReady(): string | undefined;
}

/** @throws OperatorError when files, addresses or the device cannot be used. */
export async function startAgent(
  config: AgentConfig,
  deps: AgentDependencies,
): Promise<RunningAgent> {
  const tls = loadTlsFiles(config, deps.wallClock());
  const agent = new Agent(config, deps, { tls, ...requireOwnIdentity("agent", tls.leaf, config) });
  await agent.begin();
  return agent;
}

interface Prepared {
  readonly tls: LoadedTls;
  readonly own: Identity;
  readonly identities: IdentityConfig;
}

class Agent implements RunningAgent {
  readonly addresses: readonly string[];
  readonly failed: Promise<string>;
  readonly #deps: AgentDependencies;
  readonly #report: AgentReport;
  readonly #store: AgentStore;
  readonly #map: ServiceMap;
  readonly #endpoint: ClientEndpoint;
  readonly #state: AgentState;
  readonly #driver: Driver<AgentInput, AgentOutput>;
  readonly #pinger: Pinger;
  readonly #startedAt: Instant;
  readonly #relays: readonly string[];
  readonly #endWatch: () => void;
  #fail: (reason: string) => void = () => {};
  #config: AgentConfig;
  #prepared: Prepared;
  #services: readonly OfferedService[] = [];
  #warm: readonly string[];
  #tun: string | undefined;
  #control: ControlSocket | undefined;
  #stopped = false;

  constructor(config: AgentConfig, deps: AgentDependencies, prepared: Prepared) {
    const { clock, logger } = deps;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.#config = config;
    this.#deps = deps;
    this.#prepared = prepared;
    this.#report = new AgentReport(logger, clock);
    this.#startedAt = clock.now();
    this.#store = new AgentStore(config.stateDir, (detail) => {
      logger.error("store not written", { detail });
    });
    const memory = this.#store.load();
    const { map, moved } = restoreServiceMap(config, memory, deps.hostNetworks ?? hostNetworks);
    this.#map = map;
    if (moved) logger.warn("address pool moved", { detail: describePool(map.pool) });
    this.#warm = memory.warm;
    const relays = config.relays.map(relayAddress);
    this.#relays = relays.map(({ address }) => address);

    const endpoint = deps.openEndpoint(
      {
        role: "agent",
        listen: config.listen,
        resetKey: randomBytes(32),
        allowLoopback: deps.allowLoopback ?? false,
        limits: machineLimits(),
      },
      (events) => this.#handleEvents(events),
    );
    this.addresses = endpoint.localAddresses;
    this.#endpoint = new ClientEndpoint(endpoint, {
      clock,
      logger,
      resolveHost: deps.resolveHost,
      onDialFailed: (event) => this.#driver.handleInput(event),
      onStopped: (reason) => this.#fail(reason),
    });
    this.#state = new AgentState(
      {
        instance: randomBytes(16).toString("hex"),
        software: deps.software,
        relays: relays.map((relay) => ({
          name: relay.address,
          judge: relayJudge(expectedName(relay), () => this.#prepared.identities),
        })),
        judgeConnector: connectorJudge(() => this.#prepared.identities),
        issueConnection: () => endpoint.issueConnectionHandle(),
        issueChannelId: () => endpoint.issueChannelId(),
        randomHex: (octets) => randomBytes(octets).toString("hex"),
        random: Math.random,
        servicesMax: config.limits.services,
        sessionsMax: config.limits.sessions,
        warm: [...new Set([...memory.warm, ...config.warm])],
      },
      clock.now(),
    );
    this.#driver = new Driver(this.#state, clock, (output) => this.#execute(output));
    this.#pinger = new Pinger({
      clock,
      send: (command) => this.#endpoint.send(command),
      want: (service) => this.#driver.handleInput({ type: "wanted", service }),
      isReady: (service) => this.#isReady(service),
    });
    this.#endWatch = (deps.watchTls ?? watchTlsFiles)(config, () =>
      takeOver(() => this.reload(), logger),
    );
  }

  /** Brings up what applications use and begins to dial. */
  async begin(): Promise<void> {
    try {
      this.#setTls();
      const source = packetSourceOf(this.#config, this.#map.tunAddresses);
      if (source !== undefined) this.#endpoint.send(source);
      this.#setServices();
      await this.#endpoint.requireCommandsDone();
      await this.#openControl();
    } catch (error) {
      await this.stop("start failed");
      throw error;
    }
    this.#driver.handleInput({ type: "start" });
  }

  async stop(reason: string): Promise<void> {
    if (this.#stopped) return;

    this.#stopped = true;
    this.#endWatch();
    this.#driver.stop();
    this.#save();
    await Promise.all([
      this.#control?.close(),
      this.#endpoint.close(CloseCode.SHUTTING_DOWN, reason),
    ]);
  }

  reload(config: AgentConfig = this.#config): void {
    const tls = loadTlsFiles(config, this.#deps.wallClock());
    const prepared = { tls, ...requireOwnIdentity("agent", tls.leaf, config) };

    this.#config = config;
    this.#prepared = prepared;
    this.#setTls();
    this.#driver.handleInput({ type: "identities" });
    this.#setServices();
    this.#report.noteReload();
  }

  async snapshot(): Promise<AgentSnapshot> {
    const { relays, sessions } = this.#state.view;
    const granted = [...sessions.accesses].filter(({ bond }) => bond?.state === "granted");
    return {
      role: {
        ...this.#report.counters,
        ztna_legs: relays.filter(({ leg }) => leg.connection !== undefined).length,
        ztna_sessions: granted.length,
        ztna_agent_services: this.#services.length,
        ztna_agent_uptime_seconds: this.#uptimeSeconds,
        ztna_certificate_not_after_seconds: this.#prepared.tls.leaf.notAfter,
      },
      endpoint: await this.#endpoint.snapshot(),
    };
  }

  async status(): Promise<AgentStatus> {
    const endpoint = await this.#endpoint.snapshot();
    return describeStatus({
      software: this.#deps.software,
      identity: this.#prepared.own.uri,
      uptimeSeconds: this.#uptimeSeconds,
      certificateNotAfter: this.#prepared.tls.leaf.notAfter,
      tun: this.#tun,
      ipv4Pool: describePool(this.#map.pool),
      view: this.#state.view,
      services: this.#services,
      addressesOf: (service) => this.#map.addressesOf(service),
      endpoint,
      now: this.#deps.clock.now(),
    });
  }

  notReady(): string | undefined {
    if (this.#stopped) return "stopping";
    const { relays } = this.#state.view;
    if (relays.some(({ catalog }) => catalog.isKnown)) return undefined;
    const why = relays.map((it) => `${it.name}: ${it.lastFailure ?? "not connected yet"}`);
    return `no relay told which services there are: ${why.join("; ")}`;
  }

  get #uptimeSeconds(): number {
    return (this.#deps.clock.now() - this.#startedAt) / 1000;
  }

  async #openControl(): Promise<void> {
    const path = this.#config.controlSocket ?? this.#deps.controlSocket;
    if (path === undefined) return;

    this.#control = await openControlSocket(path, this.#deps.uid, {
      status: () => this.status(),
      ping: (request, onLine, onEnd) => this.#pinger.begin(request, onLine, onEnd),
    });
    this.#deps.logger.info("control socket open", { file: path });
  }

  #handleEvents(events: readonly EndpointEvent[]): void {
    if (this.#stopped) return;
    for (const event of events) {
      if (this.#endpoint.handleEvent(event)) continue;
      this.#report.noteEndpoint(event);
      if (event.type === "tun-opened") this.#tun = event.name;
      else if (event.type === "ping-reply") this.#pinger.handleReply(event);
      const input = inputOf(event);
      if (input !== undefined) this.#driver.handleInput(input);
    }
  }

  #execute(output: AgentOutput): void {
    switch (output.type) {
      case "command":
        this.#endpoint.send(output.command);
        return;
      case "dial":
        this.#endpoint.dial(output.connection, this.#relays[output.relay] ?? "", output.attempt);
        return;
      case "services":
        this.#services = output.services;
        this.#setServices();
        this.#save();
        return;
      case "warm":
        this.#warm = output.services;
        this.#save();
        return;
      case "event":
        this.#handleEvent(output.event);
        return;
    }
  }

  #handleEvent(event: AgentEvent): void {
    this.#report.note(event);
    // The pinger may ask for another service: not in the middle of the machine's step.
    if (event.type === "service-granted") {
      queueMicrotask(() => this.#pinger.handleGranted(event.service));
    } else if (event.type === "service-failed") {
      const { service, code, reason } = event;
      queueMicrotask(() => this.#pinger.handleFailed(service, code, reason));
    }
  }

  #isReady(service: string): boolean {
    const accesses = [...this.#state.view.sessions.accesses];
    return accesses.some((it) => it.service === service && it.bond?.state === "granted");
  }

  #setTls(): void {
    this.#endpoint.send({ type: "set-tls", ...this.#prepared.tls.material });
  }

  #setServices(): void {
    this.#map.prune(new Set(this.#services.map(({ name }) => name)));
    const services = this.#services.map(({ name, ports }) => {
      return { name, ports, ...this.#map.addressesOf(name) };
    });
    this.#endpoint.send({ type: "set-services", services, listeners: listenersOf(this.#config) });
  }

  #save(): void {
    const { pool, remembered: addresses } = this.#map;
    this.#store.save({ pool: describePool(pool), addresses, warm: [...this.#warm] });
  }
}

/** Returns the input that an event is, or `undefined` when the machine has no part in it. */
function inputOf(event: EndpointEvent): AgentInput | undefined {
  switch (event.type) {
    case "handshake":
    case "control":
    case "closed":
    case "leg-silent":
    case "tunnel-silent":
    case "flow":
    case "wanted":
      return event;
    default:
      return undefined;
  }
}
