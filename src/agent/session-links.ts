/**
 * A service's sessions over one tunnel at every relay: asked for, renewed, confirmed, ended.
 *
 * - **Each relay that lists the service has a session for it**, with the connector that the first one
 *   chose: so each relay adds a path to the same tunnel.
 * - **A session is asked for again, by name,** after each new leg, after three quarters of a lease
 *   that nobody renewed, and after a relay forgot it; the tunnel notices nothing.
 * - **A relay that forgot has {@link CONFIRM_WITHIN}** to find the connector again.
 * - **The last session ends the service's use of the tunnel.**
 */

import { after, type Duration, earliest, type Instant, isDue, ms, seconds } from "../base/time.ts";
import { FlowAnswer } from "../leg/endpoint-port.ts";
import type { LegAnswer } from "../leg/relay-leg.ts";
import { pathOf } from "../leg/relayed-path.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import { REASON_CHARS_MAX } from "../protocol/limits.ts";
import type { SessionOpenOk } from "../protocol/messages.ts";
import type { ChannelIds } from "./channel-ids.ts";
import type { Relays } from "./relays.ts";
import { type Bond, backoff, type Link, newLink } from "./service-access.ts";
import type { TunnelBook } from "./tunnel-book.ts";
import type { AccessFailure } from "./tunnel-report.ts";

/** `docs/protocol.md`, lifetimes. */
export const CONFIRM_WITHIN: Duration = seconds(120);

/** Part of a lease after which the agent renews it by itself; the relay does at half. */
const RENEW_AT = 0.75;

export class SessionLinks {
  readonly #relays: Relays;
  readonly #tunnels: TunnelBook;
  readonly #channelIds: ChannelIds;
  readonly #asks = new Map<string, Ask>();
  readonly #bySession = new Map<string, Bond>();
  readonly #ended: EndedBond[] = [];

  constructor(relays: Relays, tunnels: TunnelBook, channelIds: ChannelIds) {
    this.#relays = relays;
    this.#tunnels = tunnels;
    this.#channelIds = channelIds;
  }

  /** The first session of a bond: the one that made it. */
  attach(bond: Bond, relay: number, { session, leaseMs }: SessionOpenOk, now: Instant): void {
    const link = newLink(now);
    bond.links.set(relay, link);
    this.#hold(bond, relay, link, session, leaseMs, now);
  }

  /** Asks every relay that lacks a session of this bond, or has to be asked again. */
  upkeep(bond: Bond, now: Instant): void {
    if (!isKeptUp(bond)) return;

    for (let relay = 0; relay < this.#relays.count; relay++) {
      const link = bond.links.get(relay) ?? newLink(now);
      if (!this.#canAsk(bond, relay, link)) continue;
      bond.links.set(relay, link);
      if (link.askAt <= now) this.#ask(bond, relay, link, now);
    }
  }

  /** A leg is ready: whatever was asked over the last one is void. */
  handleRelayReady(bond: Bond, relay: number, newEpoch: boolean, now: Instant): void {
    const link = bond.links.get(relay);
    if (link === undefined) return;

    link.askAt = now;
    if (newEpoch && link.session !== undefined) link.confirmBy ??= after(now, CONFIRM_WITHIN);
  }

  /** Returns whether the request was one of a link. */
  handleAnswer(relay: number, request: number, answer: LegAnswer, now: Instant): boolean {
    const ask = this.#take(relay, request);
    if (ask === undefined) return false;

    const { bond, link } = ask;
    if (answer.type === "failed") this.#channelIds.handleRefused(relay, ask.proposed);
    if (bond.links.get(relay) !== link) {
      if (answer.type === "session-open-ok") this.close(relay, answer.session, "not used");
    } else if (answer.type === "session-open-ok") {
      this.#confirm(ask, relay, answer, now);
    } else if (answer.type === "failed") {
      const final = answer.code === "not-available" || answer.code === "refused";
      this.#fail(ask, relay, answer.reason, final, now);
    }
    return true;
  }

  handleUnanswered(relay: number, request: number, reason: string, now: Instant): boolean {
    const ask = this.#take(relay, request);
    if (ask === undefined) return false;

    if (ask.bond.links.get(relay) === ask.link) this.#fail(ask, relay, reason, false, now);
    return true;
  }

  handleRenew(relay: number, session: string, leaseMs: number, now: Instant): void {
    const bond = this.#bySession.get(sessionKey(relay, session));
    const link = bond?.links.get(relay);
    if (link !== undefined) extendLease(link, leaseMs, now);
  }

  /** Returns the service whose session the relay ended. */
  handleClose(relay: number, session: string, now: Instant): Bond | undefined {
    const bond = this.#bySession.get(sessionKey(relay, session));
    const link = bond?.links.get(relay);
    if (bond === undefined || link === undefined) return undefined;

    this.#release(bond, relay);
    // The same relay may be asked again as long as another one holds the tunnel up.
    if (bond.links.size > 0)
      bond.links.set(relay, { ...newLink(now), askAt: after(now, ms(1000)) });
    return bond;
  }

  /** Gives up every session of a bond and tells the relays. */
  release(bond: Bond, code: CloseCodeName, reason: string): void {
    for (const [relay, { session }] of [...bond.links]) {
      if (session !== undefined) this.close(relay, session, reason, code);
      this.#release(bond, relay);
    }
  }

  close(relay: number, session: string, reason: string, code: CloseCodeName = "NO_ERROR"): void {
    // It may quote what a connector or another relay said.
    const told = reason.slice(0, REASON_CHARS_MAX);
    this.#relays.send(relay, { type: "session-close", session, code, reason: told });
  }

  isHeld(bond: Bond): boolean {
    return [...bond.links.values()].some(({ session }) => session !== undefined);
  }

  handleTimeout(bond: Bond, now: Instant): void {
    for (const [relay, link] of [...bond.links]) {
      if (isDue(link.leaseUntil, now)) this.#expire(bond, relay, "the lease ran out");
      else if (isDue(link.confirmBy, now)) {
        this.#expire(bond, relay, "the relay did not find the connector again");
      }
    }
  }

  pollTimeout(bond: Bond): Instant | undefined {
    const due: (Instant | undefined)[] = [];
    for (const [relay, link] of bond.links) {
      due.push(link.leaseUntil, link.confirmBy);
      if (isKeptUp(bond) && this.#canAsk(bond, relay, link)) due.push(link.askAt);
    }
    return earliest(...due.filter((at) => at !== undefined));
  }

  /** Bonds whose last session is gone. */
  pollEnded(): EndedBond | undefined {
    return this.#ended.shift();
  }

  #canAsk({ access }: Bond, relay: number, link: Link): boolean {
    if (link.asking || this.#relays.leg(relay) === undefined) return false;
    return link.session !== undefined || this.#relays.lists(relay, access.service);
  }

  #ask(bond: Bond, relay: number, link: Link, now: Instant): void {
    const known = bond.pair.paths.get(relay)?.receiveId;
    const proposed = known === undefined ? this.#channelIds.propose(relay) : undefined;
    const channelId = known ?? proposed ?? "";
    const request = this.#relays.request(
      relay,
      {
        type: "session-open",
        service: bond.access.service,
        channelId,
        connector: bond.pair.instance,
        avoid: [],
        ...(link.session === undefined ? {} : { session: link.session }),
      },
      now,
    );
    if (request === undefined) {
      this.#channelIds.handleRefused(relay, proposed);
      link.askAt = after(now, backoff(1));
      return;
    }
    link.asking = true;
    this.#asks.set(askKey(relay, request), { bond, link, proposed });
  }

  #confirm(ask: Ask, relay: number, answer: SessionOpenOk, now: Instant) {
    const { bond } = ask;
    const complaint = complaintAbout(answer, bond.access.service, relay, this.#channelIds);
    const { identity, spki, instance } = answer.connector;
    const { pair } = bond;
    const samePair = identity === pair.identity && spki === pair.spki && instance === pair.instance;
    if (complaint !== undefined || !samePair) {
      this.close(relay, answer.session, "not what was asked for");
      const reason = complaint ?? `the relay answered with ${identity} of another instance or key`;
      this.#fail(ask, relay, reason, false, now);
      return;
    }

    const leg = this.#relays.leg(relay);
    const [path] = answer.paths;
    if (leg === undefined || path === undefined) return;
    const { channelId: receiveId } = answer;
    this.#tunnels.join(answer.connector, relay, pathOf(leg, path, receiveId));
    this.#channelIds.handleAnswered(relay, receiveId, ask.proposed);
    this.#hold(bond, relay, ask.link, answer.session, answer.leaseMs, now);
  }

  #hold(bond: Bond, relay: number, link: Link, session: string, leaseMs: number, now: Instant) {
    if (link.session !== undefined) this.#bySession.delete(sessionKey(relay, link.session));
    link.session = session;
    link.failures = 0;
    link.confirmBy = undefined;
    extendLease(link, leaseMs, now);
    this.#bySession.set(sessionKey(relay, session), bond);
  }

  #fail({ bond, link }: Ask, relay: number, reason: string, final: boolean, now: Instant): void {
    link.failures += 1;
    link.askAt = after(now, backoff(link.failures));
    if (final && link.session !== undefined) this.#expire(bond, relay, reason);
  }

  #expire(bond: Bond, relay: number, reason: string): void {
    this.#release(bond, relay);
    if (this.isHeld(bond)) return;

    const answer = FlowAnswer.NotAvailable;
    this.#ended.push({ bond, failure: { code: "session-ended", reason, answer } });
  }

  #release(bond: Bond, relay: number): void {
    const session = bond.links.get(relay)?.session;
    if (session !== undefined) this.#bySession.delete(sessionKey(relay, session));
    bond.links.delete(relay);
  }

  #take(relay: number, request: number): Ask | undefined {
    const key = askKey(relay, request);
    const ask = this.#asks.get(key);
    if (ask !== undefined) ask.link.asking = false;
    this.#asks.delete(key);
    return ask;
  }
}

export interface EndedBond {
  readonly bond: Bond;
  readonly failure: AccessFailure;
}

interface Ask {
  readonly bond: Bond;
  readonly link: Link;
  /** The channel id that goes with it, unless the pair has one. */
  readonly proposed: string | undefined;
}

/** Returns what is wrong with a relay's answer, if anything is. */
export function complaintAbout(
  answer: SessionOpenOk,
  service: string,
  relay: number,
  channelIds: ChannelIds,
): string | undefined {
  if (answer.service !== service) {
    return `the relay answered for ${answer.service} when ${service} was asked for`;
  }
  if (!channelIds.isOurs(relay, answer.channelId)) {
    return `the relay answered with channel ${answer.channelId}, which this agent did not choose`;
  }
  return answer.paths.length === 0 ? "the relay answered without a path" : undefined;
}

/** A silent tunnel too: a session at a relay that came back is the path over which it answers again. */
function isKeptUp(bond: Bond): boolean {
  return bond.state === "granted";
}

function extendLease(link: Link, leaseMs: number, now: Instant): void {
  link.leaseUntil = after(now, ms(leaseMs));
  link.askAt = after(now, ms(leaseMs * RENEW_AT));
}

function askKey(relay: number, request: number): string {
  return `${relay} ${request}`;
}

function sessionKey(relay: number, session: string): string {
  return `${relay} ${session}`;
}
