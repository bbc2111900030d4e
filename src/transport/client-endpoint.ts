/**
 * What the shells of agent and connector share around an endpoint: relays by name.
 *
 * - **A relay's name is resolved for each attempt**, and the attempts walk over its addresses, so a
 *   relay that moved or has a dead address is reached. A slow resolver delays nothing else: one
 *   question a name is under way at a time.
 * - **An attempt that was given up before its name was resolved is never dialled.**
 */
import { lookup } from "node:dns/promises";
import { formatSocketAddress, parseHostPort, parseIp } from "../protocol/address.ts";
import type {
  ClosedEvent,
  Command,
  ConnectionHandle,
  Endpoint,
  EndpointEvent,
  EndpointSnapshot,
} from "./endpoint.ts";
import { WatchedEndpoint, type WatchedEndpointOptions } from "./watched-endpoint.ts";

/** Returns the IP addresses of a host name. */
export type ResolveHost = (host: string) => Promise<readonly string[]>;

export interface ClientEndpointOptions extends WatchedEndpointOptions {
  readonly resolveHost?: ResolveHost | undefined;
  /** A dial that failed before the data plane heard of it. */
  readonly onDialFailed: (event: ClosedEvent) => void;
}

export class ClientEndpoint {
  readonly #endpoint: WatchedEndpoint;
  readonly #options: ClientEndpointOptions;
  readonly #resolving = new Map<string, Promise<readonly string[]>>();
  /** Attempts whose relay's name is being resolved. */
  readonly #undialled = new Set<ConnectionHandle>();

  constructor(endpoint: Endpoint, options: ClientEndpointOptions) {
    this.#endpoint = new WatchedEndpoint(endpoint, options);
    this.#options = options;
  }

  send(command: Command): void {
    if (command.type === "close-connection" && this.#undialled.delete(command.connection)) return;
    this.#endpoint.send(command);
  }

  /** Connects to the relay at `address` ("host:port") under the handle. */
  dial(connection: ConnectionHandle, address: string, attempt: number): void {
    const target = parseHostPort(address);
    if (target === undefined) {
      queueMicrotask(() => this.#failDial(connection, `${address} is no host and port`));
      return;
    }
    const { host, port } = target;
    if (parseIp(host) !== undefined) {
      this.#connect(connection, host, port, undefined);
      return;
    }

    this.#undialled.add(connection);
    this.#resolve(host).then(
      (addresses) => {
        if (!this.#undialled.delete(connection)) return;
        const usable = addresses.filter((ip) => this.#hasFamilyOf(ip));
        const ip = usable[(attempt - 1) % Math.max(1, usable.length)];
        if (ip === undefined)
          this.#failDial(connection, `${host} has no address to dial from here`);
        else this.#connect(connection, ip, port, host);
      },
      (error: unknown) => {
        if (!this.#undialled.delete(connection)) return;
        const detail = error instanceof Error ? error.message : String(error);
        this.#failDial(connection, `cannot resolve ${host}: ${detail}`);
      },
    );
  }

  /** Returns whether the event was one for this layer. */
  handleEvent(event: EndpointEvent): boolean {
    return this.#endpoint.handleEvent(event);
  }

  /** Figures of the moment, or `undefined` when the data plane is too busy to give them. */
  snapshot(): Promise<EndpointSnapshot | undefined> {
    return this.#endpoint.snapshot();
  }

  /** @throws OperatorError when one of the commands so far failed. */
  requireCommandsDone(): Promise<void> {
    return this.#endpoint.requireCommandsDone();
  }

  async close(code: number, reason: string): Promise<void> {
    this.#undialled.clear();
    await this.#endpoint.close(code, reason);
  }

  #connect(connection: ConnectionHandle, ip: string, port: number, name: string | undefined) {
    const parsed = parseIp(ip);
    if (parsed === undefined) {
      queueMicrotask(() => this.#failDial(connection, `${ip} is no address`));
      return;
    }
    const remote = formatSocketAddress({ ip: parsed, port });
    const serverName = name === undefined ? {} : { serverName: name };
    this.send({ type: "connect-leg", connection, remote, ...serverName });
  }

  #resolve(host: string): Promise<readonly string[]> {
    const known = this.#resolving.get(host);
    if (known !== undefined) return known;

    const { resolveHost = systemResolve } = this.#options;
    const asked = resolveHost(host).finally(() => this.#resolving.delete(host));
    this.#resolving.set(host, asked);
    return asked;
  }

  #hasFamilyOf(ip: string): boolean {
    const isIpv6 = ip.includes(":");
    return this.#endpoint.localAddresses.some((local) => local.startsWith("[") === isIpv6);
  }

  #failDial(connection: ConnectionHandle, reason: string): void {
    if (this.#endpoint.isClosed) return;
    this.#options.onDialFailed({
      ...{ type: "closed", connection, kind: "leg", by: "local", code: 0, application: false },
      reason,
    });
  }
}

export async function systemResolve(host: string): Promise<readonly string[]> {
  const found = await lookup(host, { all: true });
  return found.map(({ address }) => address);
}
