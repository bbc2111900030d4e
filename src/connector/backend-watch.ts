/**
 * Where the backends are and whether they live.
 *
 * - **A name is resolved again and again.** One that does not resolve at the moment keeps its last
 *   addresses: a resolver that fails does not take a service down.
 * - **A TCP backend is alive when one of its addresses takes a connection.** UDP says nothing when
 *   nobody asks, so a UDP backend that resolves is assumed alive.
 * - **A service is healthy while any of its backends is**: echo answers then.
 * - **Each backend is looked at once at a time**, however slow its resolver or its host.
 */
import { after, type Clock, type Instant, ms } from "../base/time.ts";
import { formatSocketAddress, parseHostPort, parseIp } from "../protocol/address.ts";
import type { BackendService } from "../transport/endpoint.ts";
import type { ConfiguredBackend, ConfiguredService } from "./connector-config.ts";

export interface BackendWatchOptions {
  readonly clock: Clock;
  readonly checkMs: number;
  readonly resolveMs: number;
  readonly timeoutMs: number;
  /** Returns the IP addresses of a name. */
  readonly resolveHost: (host: string) => Promise<readonly string[]>;
  /** Returns whether something at "ip:port" takes a TCP connection in time. */
  readonly connect: (address: string, timeoutMs: number) => Promise<boolean>;
  /** The whole list, when any of it is different. */
  readonly onChange: (services: readonly BackendService[]) => void;
  readonly onEvent: (event: BackendEvent) => void;
}

export type BackendEvent =
  | { readonly type: "resolved"; readonly backend: string; readonly addresses: readonly string[] }
  | { readonly type: "resolution-failed"; readonly backend: string; readonly detail: string }
  | { readonly type: "up"; readonly backend: string }
  | { readonly type: "down"; readonly backend: string };

export class BackendWatch {
  readonly #options: BackendWatchOptions;
  readonly #targets = new Map<string, Target>();
  #services: readonly ConfiguredService[] = [];
  #published = "";
  #stopped = false;

  constructor(options: BackendWatchOptions) {
    this.#options = options;
  }

  /** How many services have a backend that answers. */
  get healthyServices(): number {
    return this.#services.filter((service) => this.#isHealthy(service)).length;
  }

  /** Watches the backends of these services and of no others. */
  setServices(services: readonly ConfiguredService[]): void {
    this.#services = services;
    const wanted = new Map(
      services.flatMap(({ backends }) => backends).map((it) => [keyOf(it), it] as const),
    );
    for (const [key, target] of this.#targets) {
      if (wanted.has(key)) continue;
      target.cancel();
      this.#targets.delete(key);
    }
    const added = [...wanted].filter(([key]) => !this.#targets.has(key));
    for (const [key, { protocol, backend }] of added) {
      const target: Target = {
        ...{ protocol, backend, addresses: [], alive: undefined, resolveAt: undefined },
        cancel: () => {},
      };
      this.#targets.set(key, target);
      void this.#look(key, target);
    }
    this.#publish();
  }

  stop(): void {
    this.#stopped = true;
    for (const { cancel } of this.#targets.values()) cancel();
    this.#targets.clear();
  }

  /** Resolves if it is time, checks, and comes back later. Never rejects. */
  async #look(key: string, target: Target): Promise<void> {
    const { clock, checkMs, resolveMs } = this.#options;
    if (target.resolveAt === undefined || target.resolveAt <= clock.now()) {
      target.resolveAt = after(clock.now(), ms(resolveMs));
      await this.#resolve(target);
      if (this.#targets.get(key) === target) this.#publish();
    }
    const alive = await this.#isAlive(target);
    if (this.#stopped || this.#targets.get(key) !== target) return;

    if (alive !== target.alive) {
      this.#options.onEvent({ type: alive ? "up" : "down", backend: target.backend });
    }
    target.alive = alive;
    this.#publish();
    target.cancel = clock.schedule(after(clock.now(), ms(checkMs)), () => {
      void this.#look(key, target);
    });
  }

  async #resolve(target: Target): Promise<void> {
    const { backend } = target;
    const parsed = parseHostPort(backend);
    if (parsed === undefined) return;

    const { host, port } = parsed;
    try {
      const found = parseIp(host) === undefined ? await this.#options.resolveHost(host) : [host];
      const addresses = found.flatMap((text) => {
        const ip = parseIp(text);
        return ip === undefined ? [] : [formatSocketAddress({ ip, port })];
      });
      if (addresses.length === 0) throw new Error("the name has no address");
      if (addresses.join() === target.addresses.join()) return;

      target.addresses = addresses.slice(0, ADDRESSES_MAX);
      this.#options.onEvent({ type: "resolved", backend, addresses: target.addresses });
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      this.#options.onEvent({ type: "resolution-failed", backend, detail });
    }
  }

  async #isAlive({ protocol, addresses }: Target): Promise<boolean> {
    if (protocol === "udp") return addresses.length > 0;

    const { connect, timeoutMs } = this.#options;
    for (const address of addresses) {
      if (await connect(address, timeoutMs)) return true;
    }
    return false;
  }

  #publish(): void {
    if (this.#stopped) return;
    const services = this.#services.map((service) => this.#describe(service));
    const published = JSON.stringify(services);
    if (published === this.#published) return;

    this.#published = published;
    this.#options.onChange(services);
  }

  #describe(service: ConfiguredService): BackendService {
    const { name, backends, idleMs } = service;
    const ports = backends.map((it) => ({
      protocol: it.protocol,
      port: it.port,
      addresses: this.#targets.get(keyOf(it))?.addresses ?? [],
    }));
    return { name, ports, healthy: this.#isHealthy(service), idleMs };
  }

  #isHealthy({ backends }: ConfiguredService): boolean {
    return backends.some((it) => this.#targets.get(keyOf(it))?.alive === true);
  }
}

/** What one name may resolve to: they are tried in turn, each for seconds. */
const ADDRESSES_MAX = 16;

interface Target {
  readonly protocol: "tcp" | "udp";
  readonly backend: string;
  /** The last that were found. */
  addresses: readonly string[];
  /** Absent until it was looked at. */
  alive: boolean | undefined;
  resolveAt: Instant | undefined;
  cancel: () => void;
}

function keyOf({ protocol, backend }: Pick<ConfiguredBackend, "protocol" | "backend">): string {
  return `${protocol} ${backend}`;
}
