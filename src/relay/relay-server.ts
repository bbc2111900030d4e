/**
 * The relay as a process runs it: state machine, data plane, files.
 *
 * - **Nothing is decided here.** Events of the data plane become inputs, outputs become commands.
 * - **A reload changes nothing or everything**: files and configuration are read and judged before
 *   the first of them takes effect.
 * - **A full disk costs memory of revocations, not service.** They hold until the process ends, and
 *   the log says so.
 */
import { randomBytes } from "node:crypto";
import { OperatorError } from "../base/error.ts";
import { type Clock, type Instant, instant } from "../base/time.ts";
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { IdentityConfig } from "../policy/identity.ts";
import { identityConfigOf, ownIdentity } from "../policy/identity-config.ts";
import { formatHostPort, parseIp, parseSocketAddress } from "../protocol/address.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import { Driver } from "../transport/driver.ts";
import type { EndpointEvent, EndpointSnapshot, OpenEndpoint } from "../transport/endpoint.ts";
import {
  type LoadedTls,
  loadTlsFiles,
  type TlsFiles,
  takeOver,
  watchTlsFiles,
} from "../transport/tls-files.ts";
import { WatchedEndpoint } from "../transport/watched-endpoint.ts";
import { MemoryRegistry } from "./registry.ts";
import type { RelayConfig } from "./relay-config.ts";
import { commandOf, inputOf, revocationOf } from "./relay-mapping.ts";
import { RelayReport } from "./relay-report.ts";
import { RelayState } from "./relay-state.ts";
import { RelayStore } from "./relay-store.ts";
import type { RelayInput, RelayOutput, RelaySettings, Revocation } from "./relay-values.ts";

export interface RelayDependencies {
  readonly openEndpoint: OpenEndpoint;
  readonly clock: Clock;
  readonly wallClock: () => Date;
  readonly logger: Logger;
  /** Watches the certificate files; a test hands in its own. */
  readonly watchTls?: (files: TlsFiles, onChange: () => void) => () => void;
  /** Whether checks may go to loopback. */
  readonly allowLoopback?: boolean;
}

export interface RelaySnapshot {
  readonly role: RoleFigures<"relay">;
  /** Absent when the data plane did not answer in time. */
  readonly endpoint: EndpointSnapshot | undefined;
}

export interface RunningRelay {
  /** Addresses in force, with the ports that the system chose. */
  readonly addresses: readonly string[];
  /** Resolves with the reason when the relay cannot go on. */
  readonly failed: Promise<string>;
  /** Closes every leg with `SHUTTING_DOWN`. */
  stop(reason: string): Promise<void>;
  /**
   * Takes over changed certificate files and, if given, the parts of the configuration that may
   * change while it runs: policy, trust, revocations.
   *
   * @throws OperatorError when something is wrong with them; nothing has changed then.
   */
  reload(config?: RelayConfig): void;
  snapshot(): Promise<RelaySnapshot>;
  /** Why it is not ready, or `undefined` when it is. */
  notReady(): string | undefined;
}

/**
 * Resolves when the relay serves.
 *
 * @throws OperatorError when files, addresses or the data directory cannot be used.
 */
export async function startRelay(
  config: RelayConfig,
  deps: RelayDependencies,
): Promise<RunningRelay> {
  const tls = loadTlsFiles(config, deps.wallClock());
  const identities = identitiesOf(tls, config);
  const store = new RelayStore(config.dataDir);
  const server = construct(config, deps, { tls, identities, store });
  try {
    await server.requireCommandsDone();
    return server;
  } catch (error) {
    await server.stop("it could not start");
    throw error;
  }
}

function construct(config: RelayConfig, deps: RelayDependencies, prepared: Prepared): RelayServer {
  try {
    return new RelayServer(config, deps, prepared);
  } catch (error) {
    prepared.store.close();
    throw error;
  }
}

interface Prepared {
  readonly tls: LoadedTls;
  readonly identities: IdentityConfig;
  readonly store: RelayStore;
}

class RelayServer implements RunningRelay {
  readonly failed: Promise<string>;
  readonly #deps: RelayDependencies;
  readonly #store: RelayStore;
  readonly #report: RelayReport;
  readonly #endpoint: WatchedEndpoint;
  readonly #driver: Driver<RelayInput, RelayOutput>;
  readonly #state: RelayState;
  readonly #startedAt: Instant;
  readonly #revocations: Revocation[];
  readonly #endWatch: () => void;
  #fail: (reason: string) => void = () => {};
  #config: RelayConfig;
  #tls: LoadedTls;
  #tlsIsStale = false;
  #stopped = false;

  constructor(config: RelayConfig, deps: RelayDependencies, { tls, identities, store }: Prepared) {
    const { clock, logger, wallClock } = deps;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.#config = config;
    this.#deps = deps;
    this.#store = store;
    this.#tls = tls;
    this.#report = new RelayReport(logger);
    this.#startedAt = clock.now();
    this.#revocations = [...store.revocations()];
    const endpoint = deps.openEndpoint(
      {
        role: "relay",
        listen: config.listen,
        resetKey: store.resetKey(),
        allowLoopback: deps.allowLoopback ?? false,
        limits: {
          legsMax: config.limits.legs,
          handshakesMax: config.limits.handshakes,
          retriesPerSource: config.limits.retriesPerSource,
        },
      },
      (events) => this.#handleEvents(events),
    );
    const onStopped = (reason: string) => this.#fail(reason);
    this.#endpoint = new WatchedEndpoint(endpoint, { clock, logger, onStopped });

    const settings = settingsOf(config, tls, endpoint.localAddresses);
    store.beginEpoch(settings.epoch, wallClock());
    this.#state = new RelayState({
      settings,
      sources: {
        randomHex: (octets) => randomBytes(octets).toString("hex"),
        randomUnit: Math.random,
        issueChannelId: () => endpoint.issueChannelId(),
      },
      registry: new MemoryRegistry(),
      policy: config.policy,
      identities,
      revocations: this.#revocations,
    });
    this.#driver = new Driver(this.#state, clock, (output) => this.#execute(output));
    this.#setTls();
    this.#revoke(config);
    this.#endWatch = (deps.watchTls ?? watchTlsFiles)(config, () =>
      takeOver(() => this.reload(), logger),
    );
  }

  get addresses(): readonly string[] {
    return this.#endpoint.localAddresses;
  }

  /** @throws OperatorError when one of the commands so far failed. */
  requireCommandsDone(): Promise<void> {
    return this.#endpoint.requireCommandsDone();
  }

  async stop(reason: string): Promise<void> {
    if (this.#stopped) return;

    this.#stopped = true;
    this.#endWatch();
    this.#driver.stop();
    await this.#endpoint.close(CloseCode.SHUTTING_DOWN, reason);
    this.#store.close();
  }

  reload(config: RelayConfig = this.#config): void {
    const tls = loadTlsFiles(config, this.#deps.wallClock());
    const identities = identitiesOf(tls, config);

    this.#config = config;
    this.#tls = tls;
    this.#setTls();
    this.#driver.handleInput({ type: "configure", policy: config.policy, identities });
    this.#revoke(config);
    this.#report.noteReload();
  }

  async snapshot(): Promise<RelaySnapshot> {
    const { legs, agents, connectors, services, sessions } = this.#state.figures;
    return {
      role: {
        ...this.#report.counters,
        ztna_legs: legs,
        ztna_active_connections: agents + connectors,
        ztna_services: services,
        ztna_sessions: sessions,
        ztna_uptime_seconds: (this.#deps.clock.now() - this.#startedAt) / 1000,
        ztna_certificate_not_after_seconds: this.#tls.leaf.notAfter,
      },
      endpoint: await this.#endpoint.snapshot(),
    };
  }

  notReady(): string | undefined {
    return this.#stopped ? "stopping" : undefined;
  }

  #handleEvents(events: readonly EndpointEvent[]): void {
    if (this.#stopped) return;
    for (const event of events) {
      if (this.#endpoint.handleEvent(event)) continue;
      if (event.type === "handshake-refused") {
        this.#report.noteHandshakeRefused(event.remote, event.reason, event.detail);
      }
      const input = inputOf(event, (notAfter) => this.#instantOf(notAfter));
      if (input !== undefined) this.#driver.handleInput(input);
    }
  }

  #execute(output: RelayOutput): void {
    if (output.type === "event") this.#report.note(output.event);
    else if (output.type === "remember-revocation") this.#remember(output.revocation);
    else this.#endpoint.send(commandOf(output));
  }

  #remember(revocation: Revocation): void {
    this.#revocations.push(revocation);
    this.#scheduleTls();
    try {
      this.#store.addRevocation(revocation);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      this.#deps.logger.error("store not written", { detail });
    }
  }

  /** Once for all revocations of a step. */
  #scheduleTls(): void {
    if (this.#tlsIsStale) return;

    this.#tlsIsStale = true;
    queueMicrotask(() => {
      if (this.#tlsIsStale && !this.#stopped) this.#setTls();
    });
  }

  #setTls(): void {
    this.#tlsIsStale = false;
    const revoked = this.#revocations.map(revocationOf);
    this.#endpoint.send({ type: "set-tls", ...this.#tls.material, revoked });
  }

  #revoke({ revoked }: RelayConfig): void {
    for (const name of revoked) this.#driver.handleInput({ type: "revoke", name });
  }

  #instantOf(notAfter: number): Instant {
    const leftMs = notAfter * 1000 - this.#deps.wallClock().getTime();
    return instant(this.#deps.clock.now() + leftMs);
  }
}

function identitiesOf({ leaf }: LoadedTls, config: RelayConfig): IdentityConfig {
  const own = ownIdentity(leaf, config);
  if (own?.role === "relay") return identityConfigOf(own, config);

  const found = leaf.uris.length === 0 ? "no URI SAN" : leaf.uris.join(", ");
  throw new OperatorError(
    "CERTIFICATE_INVALID",
    `the certificate ${config.certificate} names no relay: it has ${found}`,
    { hint: "Issue one with `ztna pki issue relay NAME --host HOST`, or map it by identities." },
  );
}

function settingsOf(
  config: RelayConfig,
  { leaf }: LoadedTls,
  localAddresses: readonly string[],
): RelaySettings {
  const reachable = localAddresses.filter((address) => !isUnspecified(address));
  const { legs: _, handshakes: __, retriesPerSource: ___, ...limits } = config.limits;
  return {
    relay: config.name ?? nameOf(leaf.dnsNames, localAddresses),
    epoch: randomBytes(32).toString("hex"),
    stunAddresses: config.advertise.length > 0 ? config.advertise : reachable,
    leaseMs: config.leaseSeconds * 1000,
    channelRateBps: config.channelRateBps,
    limits,
  };
}

/** What clients most likely dialled: a name of the certificate, else an address. */
function nameOf(dnsNames: readonly string[], localAddresses: readonly string[]): string {
  const local = localAddresses[0] ?? "";
  const port = parseSocketAddress(local)?.port;
  const [host] = dnsNames;
  return host === undefined || port === undefined ? local : formatHostPort({ host, port });
}

function isUnspecified(address: string): boolean {
  const ip = parseSocketAddress(address)?.ip ?? parseIp(address);
  return ip === undefined || ip.octets.every((octet) => octet === 0);
}
