/**
 * How a service gets its connector: one session-open at a time, relay by relay.
 *
 * - **The order is that of the configuration**; a relay that said no is not asked again in a round.
 * - **A silent connector and one that did not prove itself are avoided**, and a relay that names one
 *   all the same has said no.
 * - **An answer is held against the question**: another service, a channel that this agent did not
 *   choose, no path at all are the relay's fault and make no session.
 */

import type { Instant } from "../base/time.ts";
import { FlowAnswer } from "../leg/endpoint-port.ts";
import type { LegAnswer } from "../leg/relay-leg.ts";
import { pathOf } from "../leg/relayed-path.ts";
import { AVOID_MAX } from "../protocol/limits.ts";
import type { SessionOpenOk } from "../protocol/messages.ts";
import { failureOfAnswer, NO_RELAY } from "./access-failure.ts";
import type { ChannelIds } from "./channel-ids.ts";
import type { Relays } from "./relays.ts";
import type { Access, Bond } from "./service-access.ts";
import { complaintAbout, type SessionLinks } from "./session-links.ts";
import type { TunnelBook } from "./tunnel-book.ts";
import type { AccessFailure } from "./tunnel-report.ts";

/** How a round of asking ended for a service. */
export interface AskOutcome {
  readonly access: Access;
  /** Absent: a session was opened, or the next relay is being asked. */
  readonly failure?: AccessFailure;
}

export class SessionAsks {
  readonly #relays: Relays;
  readonly #tunnels: TunnelBook;
  readonly #links: SessionLinks;
  readonly #channelIds: ChannelIds;
  readonly #pending = new Map<string, Pending>();

  constructor(relays: Relays, tunnels: TunnelBook, links: SessionLinks, channelIds: ChannelIds) {
    this.#relays = relays;
    this.#tunnels = tunnels;
    this.#links = links;
    this.#channelIds = channelIds;
  }

  /** Returns the relay to ask, or `undefined` when none can be asked in this round. */
  nextRelay({ service, asked }: Access): number | undefined {
    for (let relay = 0; relay < this.#relays.count; relay++) {
      const usable = this.#relays.leg(relay) !== undefined && !asked.has(relay);
      if (usable && this.#relays.lists(relay, service)) return relay;
    }
    return undefined;
  }

  /** Asks the next relay for a session. Returns why that is not possible. */
  ask(access: Access, now: Instant): AccessFailure | undefined {
    const relay = this.nextRelay(access);
    if (relay === undefined) return NO_RELAY;

    const { service } = access;
    const avoid = avoided(access, now);
    const channelId = this.#channelIds.propose(relay);
    const body = { type: "session-open", service, channelId, avoid } as const;
    const request = this.#relays.request(relay, body, now);
    if (request === undefined) {
      this.#channelIds.handleRefused(relay, channelId);
      return NO_RELAY;
    }

    access.ask = { relay, request };
    this.#pending.set(keyOf(relay, request), { access, channelId });
    return undefined;
  }

  /** Returns `undefined` for a request that is none of these. */
  handleAnswer(
    relay: number,
    request: number,
    answer: LegAnswer,
    now: Instant,
  ): AskOutcome | undefined {
    const pending = this.#take(relay, request);
    if (pending === undefined) return undefined;
    if (answer.type === "session-open-ok") return this.#bind(pending, relay, answer, now);

    const { access, channelId } = pending;
    if (answer.type !== "failed") return { access };
    this.#channelIds.handleRefused(relay, channelId);
    return this.#no(access, relay, failureOfAnswer(answer), now);
  }

  handleUnanswered(
    relay: number,
    request: number,
    reason: string,
    now: Instant,
  ): AskOutcome | undefined {
    const pending = this.#take(relay, request);
    const answer = FlowAnswer.TimedOut;
    const failure = { code: "timed-out", reason, answer };
    return pending && this.#no(pending.access, relay, failure, now);
  }

  /** The relay restarted: what it did not answer before is nothing now. */
  handleNewEpoch(relay: number): void {
    this.#channelIds.handleNewEpoch(relay);
  }

  #bind(pending: Pending, relay: number, answer: SessionOpenOk, now: Instant): AskOutcome {
    const { access } = pending;
    const complaint =
      complaintAbout(answer, access.service, relay, this.#channelIds) ??
      complaintAboutConnector(access, answer, now);
    const leg = this.#relays.leg(relay);
    const [path] = answer.paths;
    const { channelId: receiveId, connector } = answer;
    const pair =
      complaint === undefined && leg !== undefined && path !== undefined
        ? this.#tunnels.join(connector, relay, pathOf(leg, path, receiveId))
        : undefined;
    if (!pair?.ok) {
      this.#links.close(relay, answer.session, "not what was asked for");
      const reason = complaint ?? pair?.error ?? "the leg was lost";
      const failure = { code: "relay-misbehaves", reason, answer: FlowAnswer.NotAvailable };
      return this.#no(access, relay, failure, now);
    }

    this.#channelIds.handleAnswered(relay, receiveId, pending.channelId);
    const links: Bond["links"] = new Map();
    const unused = { granted: undefined, flows: 0, usedAt: undefined } as const;
    const bond: Bond = { access, pair: pair.value, state: "opening", links, ...unused };
    access.bond = bond;
    access.asked.clear();
    this.#links.attach(bond, relay, answer, now);
    this.#tunnels.open(pair.value, access.service, answer.session, now);
    return { access };
  }

  #no(access: Access, relay: number, failure: AccessFailure, now: Instant): AskOutcome {
    if (access.bond !== undefined) return { access };

    access.asked.add(relay);
    if (this.nextRelay(access) === undefined) return { access, failure };

    const stuck = this.ask(access, now);
    return stuck === undefined ? { access } : { access, failure };
  }

  #take(relay: number, request: number): Pending | undefined {
    const key = keyOf(relay, request);
    const pending = this.#pending.get(key);
    this.#pending.delete(key);
    if (pending !== undefined) pending.access.ask = undefined;
    return pending;
  }
}

interface Pending {
  readonly access: Access;
  /** As proposed. */
  readonly channelId: string;
}

function avoided({ standby, avoid }: Access, now: Instant): string[] {
  const silent = standby.map(({ pair }) => pair.instance);
  const unproven = [...avoid].filter(([, until]) => until > now).map(([instance]) => instance);
  return [...new Set([...silent, ...unproven])].slice(0, AVOID_MAX);
}

function complaintAboutConnector(
  access: Access,
  answer: SessionOpenOk,
  now: Instant,
): string | undefined {
  if (access.bond !== undefined) return "a connector was found meanwhile";

  const { instance, identity } = answer.connector;
  const silent = access.standby.some(({ pair }) => pair.instance === instance);
  const unproven = (access.avoid.get(instance) ?? now) > now;
  return silent || unproven ? `the relay has no other connector than ${identity}` : undefined;
}

function keyOf(relay: number, request: number): string {
  return `${relay} ${request}`;
}
