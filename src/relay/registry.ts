/**
 * Which connector provides which service.
 *
 * The interface is what the relay's state machine asks of it; several relays will share one behind
 * the same interface, each with a local view that answers at once. A provider is named by the key of
 * its (identity, instance).
 */
import { PORTS_PER_SERVICE_MAX } from "../protocol/limits.ts";
import type { RegisteredService, ServicePort } from "../protocol/messages.ts";

export interface Provider {
  readonly key: string;
  readonly weight: number;
}

export interface Registry {
  /** Replaces what a provider offers; returns the names whose offer to agents changed. */
  set(provider: string, services: readonly RegisteredService[]): readonly string[];
  /** Returns the names whose offer to agents changed. */
  remove(provider: string): readonly string[];
  providersOf(service: string): readonly Provider[];
  /** Returns the ports that any provider offers, or `undefined` when nobody provides the service. */
  portsOf(service: string): readonly ServicePort[] | undefined;
  servicesOf(provider: string): readonly RegisteredService[];
  /** Every service that somebody provides. */
  names(): IterableIterator<string>;
  readonly size: number;
}

export class MemoryRegistry implements Registry {
  readonly #providers = new Map<string, readonly RegisteredService[]>();
  readonly #services = new Map<string, Offer>();

  get size(): number {
    return this.#services.size;
  }

  set(provider: string, services: readonly RegisteredService[]): readonly string[] {
    const before = this.servicesOf(provider).map(({ name }) => name);
    const names = [...new Set([...before, ...services.map(({ name }) => name)])];
    const was = names.map((name) => this.#fingerprint(name));

    for (const name of before) this.#forget(provider, name);
    for (const service of services) this.#learn(provider, service);
    if (services.length === 0) this.#providers.delete(provider);
    else this.#providers.set(provider, services);

    return names.filter((name, index) => this.#fingerprint(name) !== was[index]);
  }

  remove(provider: string): readonly string[] {
    return this.set(provider, []);
  }

  providersOf(service: string): readonly Provider[] {
    const providers =
      this.#services.get(service)?.providers ?? new Map<string, RegisteredService>();
    return [...providers].map(([key, { weight }]) => ({ key, weight }));
  }

  portsOf(service: string): readonly ServicePort[] | undefined {
    const offer = this.#services.get(service);
    if (offer === undefined) return undefined;

    offer.ports ??= unitedPorts([...offer.providers.values()]);
    return offer.ports;
  }

  servicesOf(provider: string): readonly RegisteredService[] {
    return this.#providers.get(provider) ?? [];
  }

  names(): IterableIterator<string> {
    return this.#services.keys();
  }

  #learn(provider: string, service: RegisteredService): void {
    const offer = this.#services.get(service.name) ?? { providers: new Map(), ports: undefined };
    offer.providers.set(provider, service);
    offer.ports = undefined;
    this.#services.set(service.name, offer);
  }

  #forget(provider: string, name: string): void {
    const offer = this.#services.get(name);
    if (offer === undefined) return;

    offer.providers.delete(provider);
    offer.ports = undefined;
    if (offer.providers.size === 0) this.#services.delete(name);
  }

  #fingerprint(name: string): string | undefined {
    return this.portsOf(name)?.map(portKey).join(" ");
  }
}

interface Offer {
  readonly providers: Map<string, RegisteredService>;
  /** Derived; `undefined` until asked for. */
  ports: readonly ServicePort[] | undefined;
}

/** In an order of their own, so that two connectors that list them differently offer the same. */
function unitedPorts(services: readonly RegisteredService[]): readonly ServicePort[] {
  const ports = new Map(
    services.flatMap((service) => service.ports).map((port) => [portKey(port), port]),
  );
  return [...ports.values()]
    .sort((a, b) => a.port - b.port || a.protocol.localeCompare(b.protocol))
    .slice(0, PORTS_PER_SERVICE_MAX);
}

function portKey({ protocol, port }: ServicePort): string {
  return `${protocol}/${port}`;
}
