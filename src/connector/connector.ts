/**
 * The connector as a process runs it: state machine, data plane, backends, files.
 *
 * - **Nothing is decided here.** Events of the data plane become inputs, outputs become commands.
 * - **A reload changes nothing or everything**: files and configuration are read and judged before the
 *   first of them takes effect. Addresses and relays need a restart.
 */
import { randomBytes } from "node:crypto";
import type { Clock, Instant } from "../base/time.ts";
import { agentJudge, relayJudge } from "../leg/judge.ts";
import { requireOwnIdentity } from "../leg/own-identity.ts";
import { expectedName, relayAddress } from "../leg/relay-address.ts";
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { IdentityConfig } from "../policy/identity.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import { ClientEndpoint, type ResolveHost, systemResolve } from "../transport/client-endpoint.ts";
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
import { BackendWatch } from "./backend-watch.ts";
import { type ConnectorConfig, servicesOf } from "./connector-config.ts";
import { ConnectorReport } from "./connector-report.ts";
import { ConnectorState } from "./connector-state.ts";
import type { ConnectorInput, ConnectorOutput } from "./connector-values.ts";
import { takesConnections } from "./tcp-probe.ts";

export interface ConnectorDependencies {
  readonly openEndpoint: OpenEndpoint;
  readonly clock: Clock;
  readonly wallClock: () => Date;
  readonly logger: Logger;
  /** "ztna/VERSION". */
  readonly software: string;
  /** Watches the certificate files; a test hands in its own. */
  readonly watchTls?: (files: TlsFiles, onChange: () => void) => () => void;
  readonly resolveHost?: ResolveHost;
  readonly takesConnections?: (address: string, timeoutMs: number) => Promise<boolean>;
  /** Whether checks may go to loopback. */
  readonly allowLoopback?: boolean;
}

export interface ConnectorSnapshot {
  readonly role: RoleFigures<"connector">;
  /** Absent when the data plane did not answer in time. */
  readonly endpoint: EndpointSnapshot | undefined;
}

export interface RunningConnector {
  /** Addresses in force, with the ports that the system chose. */
  readonly addresses: readonly string[];
  /** Resolves with the reason when the connector cannot go on. */
  readonly failed: Promise<string>;
  /** Closes every connection with `SHUTTING_DOWN`. */
  stop(reason: string): Promise<void>;
  /**
   * Takes over changed certificate files and, if given, the parts of the configuration that may
   * change while it runs: services and trust.
   *
   * @throws OperatorError when something is wrong with them; nothing has changed then.
   */
  reload(config?: ConnectorConfig): void;
  snapshot(): Promise<ConnectorSnapshot>;
  /** Why it is not ready, or `undefined` when it is. */
  notReady(): string | undefined;
}

/** @throws OperatorError when files or addresses cannot be used. */
export async function startConnector(
  config: ConnectorConfig,
  deps: ConnectorDependencies,
): Promise<RunningConnector> {
  const tls = loadTlsFiles(config, deps.wallClock());
  const connector = new Connector(config, deps, {
    tls,
    ...requireOwnIdentity("connector", tls.leaf, config),
  });
  await connector.begin();
  return connector;
}

interface Prepared {
  readonly tls: LoadedTls;
  readonly identities: IdentityConfig;
}

class Connector implements RunningConnector {
  readonly addresses: readonly string[];
  readonly failed: Promise<string>;
  readonly #deps: ConnectorDependencies;
  readonly #report: ConnectorReport;
  readonly #endpoint: ClientEndpoint;
  readonly #state: ConnectorState;
  readonly #driver: Driver<ConnectorInput, ConnectorOutput>;
  readonly #backends: BackendWatch;
  readonly #startedAt: Instant;
  readonly #relays: readonly string[];
  readonly #endWatch: () => void;
  #fail: (reason: string) => void = () => {};
  #config: ConnectorConfig;
  #tls: LoadedTls;
  #identities: IdentityConfig;
  #tlsIsStale = false;
  #stopped = false;

  constructor(config: ConnectorConfig, deps: ConnectorDependencies, prepared: Prepared) {
    const { clock, logger } = deps;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.#config = config;
    this.#deps = deps;
    this.#tls = prepared.tls;
    this.#identities = prepared.identities;
    this.#report = new ConnectorReport(logger, clock);
    this.#startedAt = clock.now();
    const relays = config.relays.map(relayAddress);
    this.#relays = relays.map(({ address }) => address);

    const endpoint = deps.openEndpoint(
      {
        role: "connector",
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
    this.#state = new ConnectorState(
      {
        instance: randomBytes(16).toString("hex"),
        software: deps.software,
        relays: relays.map((relay) => ({
          name: relay.address,
          judge: relayJudge(expectedName(relay), () => this.#identities),
        })),
        services: registered(config),
        judgeAgent: agentJudge(() => this.#identities),
        issueConnection: () => endpoint.issueConnectionHandle(),
        issueChannelId: () => endpoint.issueChannelId(),
        randomHex: (octets) => randomBytes(octets).toString("hex"),
        random: Math.random,
        sessionsMax: config.limits.sessions,
      },
      clock.now(),
    );
    this.#driver = new Driver(this.#state, clock, (output) => this.#execute(output));
    this.#backends = new BackendWatch({
      clock,
      checkMs: config.health.intervalSeconds * 1000,
      resolveMs: config.health.resolveSeconds * 1000,
      timeoutMs: config.health.timeoutSeconds * 1000,
      resolveHost: deps.resolveHost ?? systemResolve,
      connect: deps.takesConnections ?? takesConnections,
      onChange: (services) => this.#endpoint.send({ type: "set-backends", services }),
      onEvent: (event) => this.#report.noteBackend(event),
    });
    this.#endWatch = (deps.watchTls ?? watchTlsFiles)(config, () =>
      takeOver(() => this.reload(), logger),
    );
  }

  /** Sends what the data plane needs before anything else and begins to dial. */
  async begin(): Promise<void> {
    this.#setTls();
    this.#backends.setServices(servicesOf(this.#config));
    try {
      await this.#endpoint.requireCommandsDone();
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
    this.#backends.stop();
    this.#driver.stop();
    await this.#endpoint.close(CloseCode.SHUTTING_DOWN, reason);
  }

  reload(config: ConnectorConfig = this.#config): void {
    const tls = loadTlsFiles(config, this.#deps.wallClock());
    const { identities } = requireOwnIdentity("connector", tls.leaf, config);

    const servicesChanged = config !== this.#config;
    this.#config = config;
    this.#tls = tls;
    this.#identities = identities;
    this.#setTls();
    this.#driver.handleInput({ type: "identities" });
    if (servicesChanged) {
      this.#backends.setServices(servicesOf(config));
      this.#driver.handleInput({ type: "services", services: registered(config) });
    }
    this.#report.noteReload();
  }

  async snapshot(): Promise<ConnectorSnapshot> {
    const { relays, access } = this.#state.view;
    const endpoint = await this.#endpoint.snapshot();
    const bytes = endpoint?.services.reduce((sum, it) => sum + it.bytesUp + it.bytesDown, 0);
    return {
      role: {
        ...this.#report.counters,
        ...(bytes === undefined ? {} : { ztna_connector_forwarded_bytes_total: bytes }),
        ztna_legs: relays.filter(({ leg }) => leg.connection !== undefined).length,
        ztna_sessions: [...access.sessions].length,
        ztna_connector_backends_healthy: this.#backends.healthyServices,
        ztna_connector_uptime_seconds: (this.#deps.clock.now() - this.#startedAt) / 1000,
        ztna_certificate_not_after_seconds: this.#tls.leaf.notAfter,
      },
      endpoint,
    };
  }

  notReady(): string | undefined {
    if (this.#stopped) return "stopping";
    const { relays } = this.#state.view;
    if (relays.some(({ accepted }) => accepted.length > 0)) return undefined;
    const why = relays.map((it) => `${it.name}: ${it.lastFailure ?? "not registered yet"}`);
    return `no relay offers a service: ${why.join("; ")}`;
  }

  #handleEvents(events: readonly EndpointEvent[]): void {
    if (this.#stopped) return;
    for (const event of events) {
      if (this.#endpoint.handleEvent(event)) continue;
      this.#report.noteEndpoint(event);
      const input = inputOf(event);
      if (input !== undefined) this.#driver.handleInput(input);
    }
  }

  #execute(output: ConnectorOutput): void {
    switch (output.type) {
      case "command":
        this.#endpoint.send(output.command);
        return;
      case "dial":
        this.#endpoint.dial(output.connection, this.#relays[output.relay] ?? "", output.attempt);
        return;
      case "revocations":
        this.#scheduleTls();
        return;
      case "event":
        this.#report.note(output.event);
        return;
    }
  }

  /** Once for all revocations that came together. */
  #scheduleTls(): void {
    if (this.#tlsIsStale) return;

    this.#tlsIsStale = true;
    queueMicrotask(() => {
      if (this.#tlsIsStale && !this.#stopped) this.#setTls();
    });
  }

  #setTls(): void {
    this.#tlsIsStale = false;
    const { revocations: revoked } = this.#state.view;
    this.#endpoint.send({ type: "set-tls", ...this.#tls.material, revoked });
  }
}

/** Returns the input that an event is, or `undefined` when the machine has no part in it. */
function inputOf(event: EndpointEvent): ConnectorInput | undefined {
  switch (event.type) {
    case "handshake":
    case "control":
    case "closed":
    case "leg-silent":
    case "flow":
      return event;
    default:
      return undefined;
  }
}

function registered(config: ConnectorConfig) {
  return servicesOf(config).map(({ name, ports, weight }) => ({ name, ports, weight }));
}
