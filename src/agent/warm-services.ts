/** The services used last, which get their tunnels before anyone asks. */

/** More than a person uses in a day. */
export const WARM_SERVICES_MAX = 16;

export class WarmServices {
  readonly #services: Set<string>;

  /** @param services oldest first; the newest are kept. */
  constructor(services: readonly string[]) {
    this.#services = new Set(services.slice(-WARM_SERVICES_MAX));
  }

  /** Oldest first. */
  get all(): readonly string[] {
    return [...this.#services];
  }

  has(service: string): boolean {
    return this.#services.has(service);
  }

  /** Notes that `service` is used and returns whether the set of warm services is another one. */
  touch(service: string): boolean {
    const known = this.#services.delete(service);
    this.#services.add(service);
    if (known) return false;

    const [oldest] = this.#services;
    if (this.#services.size > WARM_SERVICES_MAX && oldest !== undefined) {
      this.#services.delete(oldest);
    }
    return true;
  }
}
