/**
 * What agents are told of services: a full list after `hello`, changes from then on.
 *
 * An agent hears of a service that policy lets it use and that some connector provides. A change of
 * the registry concerns every agent, so it is carried out in portions, and an agent that is behind
 * by several changes hears of them at once. Lists and changes are cut to what fits into a frame.
 */
import type { Deadline } from "../base/deadlines.ts";
import { after, type Instant, ms } from "../base/time.ts";
import { CONTROL_FRAME_BYTES_MAX, SERVICES_PER_PART_MAX, U32_MAX } from "../protocol/limits.ts";
import type { OfferedService } from "../protocol/messages.ts";
import type { Peer, ServiceListState } from "./peer-table.ts";
import type { Registry } from "./registry.ts";
import type { RelayContext } from "./relay-context.ts";

/** Agents told in one step: some milliseconds of work. */
const AGENTS_PER_STEP = 256;
/** Between steps, so that what arrives meanwhile is taken. */
const STEP_PAUSE = ms(1);
/** Changes kept for agents that are behind; one that is behind by more is compared with everything. */
export const CHANGES_MAX = 16_384;
/** What remains of a frame beside the services: type, generation and punctuation. */
const PART_BYTES_MAX = CONTROL_FRAME_BYTES_MAX - 1024;

export class ServiceLists {
  readonly #context: RelayContext;
  readonly #registry: Registry;
  /** Agents with a leg. */
  readonly #agents = new Set<Peer>();
  readonly #behind = new Set<Peer>();
  /** Names in the order of their changes; the first has the number `#dropped`. */
  #changes: string[] = [];
  #dropped = 0;
  #deadline: Deadline | undefined;

  constructor(context: RelayContext, registry: Registry) {
    this.#context = context;
    this.#registry = registry;
  }

  /** Sends the full list on a leg that said hello. */
  begin(agent: Peer): void {
    const list: ServiceListState = { generation: 1, told: new Map(), cursor: this.#head };
    agent.list = list;
    this.#agents.add(agent);
    this.#behind.delete(agent);

    const services: OfferedService[] = [];
    for (const name of [...this.#registry.names()].sort()) {
      const service = this.#offered(agent, list, name);
      if (service === undefined) continue;
      list.told.set(name, fingerprint(service));
      services.push(service);
    }
    const parts = cut(services);
    for (const [part, services] of parts.entries()) {
      const last = part === parts.length - 1;
      this.#context.send(agent, { type: "services", generation: 1, part, last, services });
    }
  }

  end(agent: Peer): void {
    agent.list = undefined;
    this.#agents.delete(agent);
    this.#behind.delete(agent);
  }

  handleChange(names: readonly string[], now: Instant): void {
    if (names.length === 0 || this.#agents.size === 0) return;

    for (const name of names) this.#changes.push(name);
    if (this.#changes.length > CHANGES_MAX) this.#forgetChanges();
    this.#markBehind(now);
  }

  /** Policy or grants changed: everything may have. */
  handlePolicy(now: Instant): void {
    if (this.#agents.size === 0) return;

    this.#forgetChanges();
    this.#markBehind(now);
  }

  /** Brings the next portion of agents up to date. */
  handleTimeout(now: Instant): void {
    this.#deadline = undefined;
    let room = AGENTS_PER_STEP;
    for (const agent of this.#behind) {
      if (room-- === 0) break;
      this.#behind.delete(agent);
      this.#update(agent);
    }
    if (this.#behind.size > 0) {
      this.#schedule(now);
    } else {
      this.#dropped = this.#head;
      this.#changes = [];
    }
  }

  get #head(): number {
    return this.#dropped + this.#changes.length;
  }

  /** Whoever has not seen all of them must be compared with everything. */
  #forgetChanges(): void {
    this.#dropped = this.#head + 1;
    this.#changes = [];
  }

  #markBehind(now: Instant): void {
    for (const agent of this.#agents) this.#behind.add(agent);
    this.#schedule(now);
  }

  #schedule(now: Instant): void {
    this.#deadline ??= this.#context.timers.set(after(now, STEP_PAUSE), { type: "lists" });
  }

  #update(agent: Peer): void {
    const { list } = agent;
    if (list === undefined) return;

    const names =
      list.cursor < this.#dropped
        ? new Set([...this.#registry.names(), ...list.told.keys()])
        : new Set(this.#changes.slice(list.cursor - this.#dropped));
    list.cursor = this.#head;
    const added: OfferedService[] = [];
    const removed: string[] = [];
    for (const name of names) {
      const service = this.#offered(agent, list, name);
      if (service === undefined) {
        if (list.told.delete(name)) removed.push(name);
      } else if (list.told.get(name) !== fingerprint(service)) {
        list.told.set(name, fingerprint(service));
        added.push(service);
      }
    }
    this.#sendChange(agent, list, added, removed);
  }

  #sendChange(
    agent: Peer,
    list: ServiceListState,
    added: readonly OfferedService[],
    removed: readonly string[],
  ): void {
    for (let at = 0; at < removed.length; at += SERVICES_PER_PART_MAX) {
      this.#sendDelta(agent, list, [], removed.slice(at, at + SERVICES_PER_PART_MAX));
    }
    if (added.length === 0) return;
    for (const part of cut(added)) this.#sendDelta(agent, list, part, []);
  }

  #sendDelta(
    agent: Peer,
    list: ServiceListState,
    added: readonly OfferedService[],
    removed: readonly string[],
  ): void {
    list.generation = list.generation === U32_MAX ? 1 : list.generation + 1;
    const { generation } = list;
    this.#context.send(agent, { type: "services", generation, added, removed });
  }

  #offered(agent: Peer, list: ServiceListState, name: string): OfferedService | undefined {
    const ports = this.#registry.portsOf(name);
    if (ports === undefined) return undefined;
    if (this.#context.policy.decide(agent.proven, name).effect === "deny") return undefined;

    const { servicesPerAgent } = this.#context.settings.limits;
    if (list.told.size >= servicesPerAgent && !list.told.has(name)) {
      const identity = agent.proven.identity.uri;
      this.#context.event({ type: "limit-reached", identity, limit: "services" });
      return undefined;
    }
    return { name, ports };
  }
}

function fingerprint({ ports }: OfferedService): string {
  return JSON.stringify(ports);
}

/** Cuts a list into parts that fit; an empty list is one empty part. */
function cut(services: readonly OfferedService[]): readonly (readonly OfferedService[])[] {
  const parts: OfferedService[][] = [[]];
  let bytes = 0;
  for (const service of services) {
    // Names and ports are ASCII: characters are octets.
    const size = JSON.stringify(service).length + 1;
    const part = parts.at(-1) ?? [];
    if (part.length === SERVICES_PER_PART_MAX || bytes + size > PART_BYTES_MAX) {
      parts.push([service]);
      bytes = size;
    } else {
      part.push(service);
      bytes += size;
    }
  }
  return parts;
}
