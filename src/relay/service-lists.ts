/**
 * What agents are told of services: a full list after `hello`, changes from then on.
 *
 * An agent hears of a service that policy lets it use and that some connector provides.
 *
 * - **A change concerns every agent**, so it is carried out in portions of bounded work, and an agent
 *   that is behind by several changes hears of them at once.
 * - **Rounds keep a distance.** The first change is told at once; what changes during its round and
 *   for {@link ROUND_INTERVAL} after it is told together.
 * - **A list has an end**, in services and in octets: what a connection takes in one step. Names are
 *   taken in their order; what does not fit is left out, and one event says so.
 * - Lists and changes are cut to what fits into a frame.
 */
import type { Deadline } from "../base/deadlines.ts";
import { after, type Instant, instant, isDue, ms, seconds } from "../base/time.ts";
import { CONTROL_FRAME_BYTES_MAX, SERVICES_PER_PART_MAX, U32_MAX } from "../protocol/limits.ts";
import type { OfferedService, ServicePort } from "../protocol/messages.ts";
import type { Peer, ServiceListState } from "./peer-table.ts";
import type { Registry } from "./registry.ts";
import type { RelayContext } from "./relay-context.ts";

/** Agents told in one step, and names looked at for them: some milliseconds of work each. */
const AGENTS_PER_STEP = 256;
const NAMES_PER_STEP = 16_384;
/** Between steps, so that what arrives meanwhile is taken. */
const STEP_PAUSE = ms(1);
/** From the end of one round, however long it took, to the beginning of the next. */
export const ROUND_INTERVAL = ms(100);
/** Services of one list as JSON: of the 1 MiB of unsent control frames that a connection holds. */
export const LIST_BYTES_MAX = 786_432;
/** A list that leaves something out is compared with everything that often: there may be room. */
export const CUT_LIST_CHECK_INTERVAL = seconds(10);
/** Changes kept for agents that are behind; one that is behind by more is compared with everything. */
export const CHANGES_MAX = 16_384;
/** What remains of a frame beside the services: type, generation and punctuation. */
const PART_BYTES_MAX = CONTROL_FRAME_BYTES_MAX - 1024;

export class ServiceLists {
  readonly #context: RelayContext;
  readonly #registry: Registry;
  /** Agents with a leg. */
  readonly #agents = new Set<Peer>();
  /** Those that the round under way has not reached yet. */
  readonly #behind = new Set<Peer>();
  /** Something has changed since the last round began. */
  #isStale = false;
  #nextRoundAt: Instant = instant(0);
  /** Names that may be looked at before the step ends. */
  #namesLeft = 0;
  /** Names in the order of their changes; the first has the number `#dropped`. */
  #changes: string[] = [];
  #dropped = 0;
  #deadline: Deadline | undefined;

  constructor(context: RelayContext, registry: Registry) {
    this.#context = context;
    this.#registry = registry;
  }

  /** Sends the full list on a leg that said hello. */
  begin(agent: Peer, now: Instant): void {
    const list: ServiceListState = {
      generation: 1,
      told: new Map(),
      bytes: 0,
      checkAt: undefined,
      cursor: this.#head,
    };
    agent.list = list;
    this.#agents.add(agent);
    this.#behind.delete(agent);

    const { added } = this.#compare(agent, list, [...this.#registry.names()].sort(), now);
    const parts = cut(added);
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
    this.#markStale(now);
  }

  /** Policy or grants changed: everything may have. */
  handlePolicy(now: Instant): void {
    if (this.#agents.size === 0) return;

    this.#forgetChanges();
    this.#markStale(now);
  }

  /** Brings the next portion of agents up to date. */
  handleTimeout(now: Instant): void {
    this.#deadline = undefined;
    if (this.#behind.size === 0 && this.#isStale && now >= this.#nextRoundAt) {
      this.#beginRound();
    }
    let room = AGENTS_PER_STEP;
    this.#namesLeft = NAMES_PER_STEP;
    for (const agent of this.#behind) {
      if (room-- === 0 || this.#namesLeft <= 0) break;
      this.#behind.delete(agent);
      this.#update(agent, now);
      this.#nextRoundAt = after(now, ROUND_INTERVAL);
    }
    if (this.#behind.size > 0 || this.#isStale) {
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

  #markStale(now: Instant): void {
    this.#isStale = true;
    this.#schedule(now);
  }

  #beginRound(): void {
    this.#isStale = false;
    for (const agent of this.#agents) this.#behind.add(agent);
  }

  /** The next portion, or else the next round. */
  #schedule(now: Instant): void {
    const soon = after(now, STEP_PAUSE);
    const at = this.#behind.size > 0 ? soon : instant(Math.max(soon, this.#nextRoundAt));
    this.#deadline ??= this.#context.timers.set(at, { type: "lists" });
  }

  #update(agent: Peer, now: Instant): void {
    const { list } = agent;
    if (list === undefined) return;

    const isBehind = list.cursor < this.#dropped || isDue(list.checkAt, now);
    const names = isBehind
      ? [...this.#registry.names(), ...list.told.keys()].sort()
      : this.#changes.slice(list.cursor - this.#dropped);
    list.cursor = this.#head;
    this.#namesLeft -= names.length;
    const { added, removed } = this.#compare(agent, list, names, now);
    this.#sendChange(agent, list, added, removed);
  }

  /** Brings the names of a list up to date: first what makes room, then what takes it. */
  #compare(agent: Peer, list: ServiceListState, names: readonly string[], now: Instant) {
    const { removed, changed } = this.#differences(agent, list, names);
    const wasCut = list.checkAt !== undefined;
    if (isDue(list.checkAt, now)) list.checkAt = undefined;
    const added: OfferedService[] = [];
    for (const service of changed) {
      const wasTold = forget(list, service.name);
      if (this.#add(list, service)) {
        added.push(service);
      } else {
        if (wasTold) removed.push(service.name);
        list.checkAt ??= after(now, CUT_LIST_CHECK_INTERVAL);
      }
    }
    if (!wasCut && list.checkAt !== undefined) {
      const identity = agent.proven.identity.uri;
      this.#context.event({ type: "limit-reached", identity, limit: "services" });
    }
    return { added, removed };
  }

  /** Takes out what is no longer offered. */
  #differences(agent: Peer, list: ServiceListState, names: readonly string[]) {
    const removed: string[] = [];
    const changed: OfferedService[] = [];
    for (const name of new Set(names)) {
      const service = this.#offered(agent, name);
      if (service === undefined) {
        if (forget(list, name)) removed.push(name);
      } else if (list.told.get(name) !== fingerprint(service)) {
        changed.push(service);
      }
    }
    return { removed, changed };
  }

  /** Returns whether the list had room for one more. */
  #add(list: ServiceListState, service: OfferedService): boolean {
    const ports = fingerprint(service);
    const bytes = list.bytes + bytesOf(service.name, ports);
    const { servicesPerAgent } = this.#context.settings.limits;
    if (list.told.size >= servicesPerAgent || bytes > LIST_BYTES_MAX) return false;

    list.told.set(service.name, ports);
    list.bytes = bytes;
    return true;
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

  #offered(agent: Peer, name: string): OfferedService | undefined {
    const ports = this.#registry.portsOf(name);
    if (ports === undefined) return undefined;
    if (this.#context.policy.decide(agent.proven, name).effect === "deny") return undefined;
    return { name, ports };
  }
}

/** The registry hands out the same ports until they change, to thousands of agents. */
const fingerprints = new WeakMap<readonly ServicePort[], string>();

function fingerprint({ ports }: OfferedService): string {
  const known = fingerprints.get(ports);
  if (known !== undefined) return known;

  const text = JSON.stringify(ports);
  fingerprints.set(ports, text);
  return text;
}

/** Returns whether the name was in the list. */
function forget(list: ServiceListState, name: string): boolean {
  const ports = list.told.get(name);
  if (ports === undefined) return false;

  list.told.delete(name);
  list.bytes -= bytesOf(name, ports);
  return true;
}

/** What a service takes in a list: names and ports are ASCII, so characters are octets. */
function bytesOf(name: string, ports: string): number {
  return `{"name":"${name}","ports":${ports}},`.length;
}

/** Cuts a list into parts that fit; an empty list is one empty part. */
function cut(services: readonly OfferedService[]): readonly (readonly OfferedService[])[] {
  const parts: OfferedService[][] = [[]];
  let bytes = 0;
  for (const service of services) {
    const size = bytesOf(service.name, fingerprint(service));
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
