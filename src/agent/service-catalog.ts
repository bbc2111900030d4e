/**
 * Which services one relay says this agent may use.
 *
 * - **A full list comes in parts and takes effect with its last**: until then the old one holds.
 * - **A change applies only to the generation before its own.** After a gap nothing is guessed: the
 *   agent reconnects and is told everything again.
 * - **Bounded**: services beyond the maximum are left out and counted.
 */
import type { OfferedService, Services } from "../protocol/messages.ts";

export type CatalogOutcome = "applied" | "incomplete" | "gap";

export class ServiceCatalog {
  readonly #servicesMax: number;
  #services = new Map<string, OfferedService>();
  #generation: number | undefined;
  #arriving: ArrivingList | undefined;
  #leftOut = 0;
  #isKnown = false;

  constructor(servicesMax: number) {
    this.#servicesMax = servicesMax;
  }

  get services(): Iterable<OfferedService> {
    return this.#services.values();
  }

  /** How many services the latest list had beyond the maximum. */
  get leftOut(): number {
    return this.#leftOut;
  }

  /** Whether a whole list came, over any leg so far. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  has(service: string): boolean {
    return this.#services.has(service);
  }

  /** A leg starts from nothing: what was half told over the last one is void. */
  handleNewLeg(): void {
    this.#generation = undefined;
    this.#arriving = undefined;
  }

  handle(message: Services): CatalogOutcome {
    if (message.added !== undefined) return this.#change(message);
    return this.#collect(message);
  }

  #change({ generation, added = [], removed = [] }: Services): CatalogOutcome {
    const follows = this.#generation !== undefined && generation === this.#generation + 1;
    if (!follows || this.#arriving !== undefined) return "gap";

    this.#generation = generation;
    this.#leftOut = 0;
    for (const name of removed) this.#services.delete(name);
    for (const service of added) this.#put(this.#services, service);
    return "applied";
  }

  #collect({ generation, part = 0, last = false, services = [] }: Services): CatalogOutcome {
    if (part === 0) {
      this.#arriving = { generation, nextPart: 0, services: new Map() };
      this.#leftOut = 0;
    }
    const list = this.#arriving;
    if (list === undefined || list.generation !== generation || list.nextPart !== part) {
      this.#arriving = undefined;
      return "gap";
    }

    list.nextPart += 1;
    for (const service of services) this.#put(list.services, service);
    if (!last) return "incomplete";

    this.#services = list.services;
    this.#isKnown = true;
    this.#generation = generation;
    this.#arriving = undefined;
    return "applied";
  }

  #put(services: Map<string, OfferedService>, service: OfferedService): void {
    if (services.size >= this.#servicesMax && !services.has(service.name)) this.#leftOut += 1;
    else services.set(service.name, service);
  }
}

interface ArrivingList {
  readonly generation: number;
  readonly services: Map<string, OfferedService>;
  nextPart: number;
}
