/**
 * The agent's sessions: opened when somebody wants a service, kept while they are used.
 *
 * - **One session-open at a time decides the connector**, relay by relay in the order of the
 *   configuration; the other relays are then asked for the same connector (`session-links.ts`).
 * - **A failure answers the flows that wait**, is kept for `status`, and is followed by a growing
 *   pause: a second at most while somebody waits, else half a minute. A session that ends at once is one.
 * - **A connector that does not prove itself is avoided for a minute**, whatever the relay says.
 * - **A silent tunnel takes no new flow.** Another connector is asked for; the old one serves on if it
 *   answers again, and takes new flows again only if no other was found.
 * - **Services used last are warm** before anyone asks; others are let go with an idle tunnel.
 */
import { after, earliest, type Instant, isDue } from "../base/time.ts";
import type { EndpointCommand, FlowEvent } from "../leg/endpoint-port.ts";
import type { LegAnswer } from "../leg/relay-leg.ts";
import type { CloseCodeName } from "../protocol/close-codes.ts";
import type { SessionClose } from "../protocol/messages.ts";
import {
  NO_RELAY,
  NOT_LISTED,
  SESSIONS_EXHAUSTED,
  STILL_OPENING,
  sessionClosed,
  UNPROVEN_CODES,
} from "./access-failure.ts";
import type { AgentEvent } from "./agent-event.ts";
import { ChannelIds } from "./channel-ids.ts";
import { isListed, type Relays } from "./relays.ts";
import {
  type Access,
  AVOID_FOR,
  type Bond,
  bondOn,
  bondsOf,
  idlestOf,
  isUsed,
  moreTelling,
  newAccess,
  nextAskAt,
  noteEnd,
  noteGranted,
  STANDBY_MAX,
  WANTED_FOR,
} from "./service-access.ts";
import { type AskOutcome, SessionAsks } from "./session-asks.ts";
import { SessionLinks } from "./session-links.ts";
import type { TunnelBook } from "./tunnel-book.ts";
import type { AccessFailure, Pair, TunnelReport } from "./tunnel-report.ts";
import { WarmServices } from "./warm-services.ts";

export interface SessionBookOptions {
  readonly sessionsMax: number;
  /** Services used last in an earlier run, oldest first. */
  readonly warm: readonly string[];
  readonly issueChannelId: () => string;
}

export type SessionBookOutput =
  | { readonly type: "command"; readonly command: EndpointCommand }
  | { readonly type: "event"; readonly event: AgentEvent }
  /** Services to remember for the next run, oldest first. */
  | { readonly type: "warm"; readonly services: readonly string[] };

export class SessionBook {
  readonly #sessionsMax: number;
  readonly #relays: Relays;
  readonly #tunnels: TunnelBook;
  readonly #links: SessionLinks;
  readonly #asks: SessionAsks;
  readonly #accesses = new Map<string, Access>();
  readonly #warm: WarmServices;
  readonly #outputs: SessionBookOutput[] = [];

  constructor(options: SessionBookOptions, relays: Relays, tunnels: TunnelBook) {
    const channelIds = new ChannelIds(options.issueChannelId, (channel) =>
      this.#outputs.push({ type: "command", command: { type: "close-channel", channel } }),
    );
    this.#sessionsMax = options.sessionsMax;
    this.#relays = relays;
    this.#tunnels = tunnels;
    this.#links = new SessionLinks(relays, tunnels, channelIds);
    this.#asks = new SessionAsks(relays, tunnels, this.#links, channelIds);
    this.#warm = new WarmServices(options.warm);
  }

  get accesses(): Iterable<Access> {
    return this.#accesses.values();
  }

  /** Flows wait for `service`. */
  want(service: string, now: Instant): void {
    if (!isListed(this.#relays, service) && !this.holds(service)) {
      this.#refuse(service, NOT_LISTED);
      return;
    }
    const access = this.#accessTo(service, now);
    access.wantedUntil = after(now, WANTED_FOR);
    this.#advance(access, now);
  }

  /** Whether a session for the service is held, listed or not. */
  holds(service: string): boolean {
    const access = this.#accesses.get(service);
    return access !== undefined && bondsOf(access).some((bond) => this.#links.isHeld(bond));
  }

  /**
   * What the relays list has changed. A list says what may be asked for; a session ends by its own
   * rules. A relay that restarted lists nothing until its connectors are back.
   */
  handleCatalog(now: Instant): void {
    for (const access of [...this.#accesses.values()]) {
      const { service, wantedUntil } = access;
      if (isListed(this.#relays, service) || this.holds(service)) continue;
      if (wantedUntil !== undefined) this.#refuse(service, NOT_LISTED);
      access.wantedUntil = undefined;
      // A relay that was asked may yet answer with a session.
      if (access.ask !== undefined) continue;
      this.#endAll(access, "NO_ERROR", "the service was withdrawn");
      this.#accesses.delete(service);
    }
    for (const service of this.#warm.all) {
      if (isListed(this.#relays, service)) this.#accessTo(service, now);
    }
    this.#advanceAll(now);
  }

  handleRelayReady(relay: number, newEpoch: boolean, now: Instant): void {
    if (newEpoch) this.#asks.handleNewEpoch(relay);
    for (const access of this.#accesses.values()) {
      access.asked.clear();
      for (const bond of bondsOf(access)) this.#links.handleRelayReady(bond, relay, newEpoch, now);
    }
    this.#advanceAll(now);
  }

  handleAnswer(relay: number, request: number, answer: LegAnswer, now: Instant): void {
    const outcome = this.#asks.handleAnswer(relay, request, answer, now);
    if (outcome === undefined) this.#links.handleAnswer(relay, request, answer, now);
    this.#handleOutcome(outcome, now);
  }

  handleUnanswered(relay: number, request: number, reason: string, now: Instant): void {
    const outcome = this.#asks.handleUnanswered(relay, request, reason, now);
    if (outcome === undefined) this.#links.handleUnanswered(relay, request, reason, now);
    this.#handleOutcome(outcome, now);
  }

  /** A session that came too late is nobody's. */
  handleLateAnswer(relay: number, answer: LegAnswer): void {
    if (answer.type !== "session-open-ok") return;
    this.#links.close(relay, answer.session, "answered too late");
  }

  handleRenew(relay: number, session: string, leaseMs: number, now: Instant): void {
    this.#links.handleRenew(relay, session, leaseMs, now);
  }

  handleClose(relay: number, { session, code, reason }: SessionClose, now: Instant): void {
    const bond = this.#links.handleClose(relay, session, now);
    if (bond === undefined) return;

    const { access } = bond;
    const failure = sessionClosed(code, reason);
    if (code === "FORBIDDEN" || code === "REVOKED") {
      this.#endAll(access, code, reason);
      this.#fail(access, failure, now);
    } else if (!this.#links.isHeld(bond)) {
      this.#end(bond, failure, now);
    }
    this.#settle(now);
  }

  handleReport(report: TunnelReport, now: Instant): void {
    switch (report.type) {
      case "opened":
        this.#handleOpened(report.pair, report.service, now);
        break;
      case "open-failed":
        this.#handleOpenFailed(report.pair, report.service, report.failure, now);
        break;
      case "service-closed": {
        const failure = sessionClosed(report.code, "the connector ended it");
        this.#handleLost(report.pair, report.service, failure, now);
        break;
      }
      case "pair-lost":
        for (const service of report.services) {
          this.#handleLost(report.pair, service, report.failure, now);
        }
        break;
      case "silent":
        for (const service of report.pair.services.keys()) {
          this.#handleSilent(report.pair, service, report.silent, now);
        }
        break;
    }
    this.#settle(now);
  }

  /** @param pair of the tunnel that the flow is in. */
  handleFlow(pair: Pair, { service, change, count }: FlowEvent, now: Instant): void {
    const bond = this.#bondOf(pair, service);
    if (bond === undefined || change === "refused") return;

    bond.usedAt = bond.access.lastUsedAt = now;
    bond.flows = Math.max(0, bond.flows + (change === "opened" ? count : -count));
    if (change === "opened" && this.#warm.touch(service)) {
      this.#outputs.push({ type: "warm", services: this.#warm.all });
    }
  }

  handleTimeout(now: Instant): void {
    for (const access of this.#accesses.values()) {
      for (const bond of bondsOf(access)) this.#links.handleTimeout(bond, now);
      if (isDue(access.wantedUntil, now)) this.#giveUpWaiting(access);
    }
    this.#settle(now);
    this.#advanceAll(now);
  }

  pollOutput(): SessionBookOutput | undefined {
    return this.#outputs.shift();
  }

  pollTimeout(): Instant | undefined {
    const due: (Instant | undefined)[] = [];
    for (const access of this.#accesses.values()) {
      due.push(access.wantedUntil);
      if (this.#canAsk(access)) due.push(nextAskAt(access));
      for (const bond of bondsOf(access)) due.push(this.#links.pollTimeout(bond));
    }
    return earliest(...due.filter((at) => at !== undefined));
  }

  #advanceAll(now: Instant): void {
    for (const access of [...this.#accesses.values()]) this.#advance(access, now);
  }

  #advance(access: Access, now: Instant): void {
    if (access.bond?.state === "granted") access.wantedUntil = undefined;
    for (const bond of bondsOf(access)) this.#links.upkeep(bond, now);
    if (!this.#canAsk(access) || (nextAskAt(access) ?? now) > now) return;

    const failure = this.#makeRoom() ? this.#asks.ask(access, now) : SESSIONS_EXHAUSTED;
    if (failure !== undefined) this.#fail(access, failure, now);
  }

  /** Whether a session is wanted, none is there or under way, and a relay could be asked. */
  #canAsk(access: Access): boolean {
    if (access.bond !== undefined || access.ask !== undefined) return false;
    if (this.#asks.nextRelay(access) === undefined) return false;

    const silent = access.standby.some(({ pair }) => pair.silentUntil !== undefined);
    return access.wantedUntil !== undefined || silent || this.#warm.has(access.service);
  }

  #handleOutcome(outcome: AskOutcome | undefined, now: Instant): void {
    if (outcome?.failure !== undefined) this.#fail(outcome.access, outcome.failure, now);
    this.#settle(now);
  }

  #handleOpened(pair: Pair, service: string, now: Instant): void {
    const bond = this.#bondOf(pair, service);
    if (bond === undefined) return;

    const { access } = bond;
    noteGranted(bond, now);
    const [link] = bond.links.values();
    const event = { service, peer: pair.identity, session: link?.session };
    this.#outputs.push({ type: "event", event: { type: "service-granted", ...event } });
    this.#advance(access, now);
  }

  #handleOpenFailed(pair: Pair, service: string, failure: AccessFailure, now: Instant): void {
    const bond = this.#bondOf(pair, service);
    if (bond === undefined) return;

    this.#endBond(bond, "NO_ERROR", failure.reason);
    this.#shun(bond, failure, now);
    if (bond.access.bond === undefined) this.#fail(bond.access, failure, now);
  }

  /** The tunnel has stopped serving `service`. */
  #handleLost(pair: Pair, service: string, failure: AccessFailure, now: Instant): void {
    const bond = this.#bondOf(pair, service);
    if (bond === undefined) return;
    if (bond.state === "opening") {
      this.#handleOpenFailed(pair, service, failure, now);
      return;
    }

    this.#end(bond, failure, now);
  }

  #handleSilent(pair: Pair, service: string, silent: boolean, now: Instant): void {
    const bond = this.#bondOf(pair, service);
    if (bond?.state !== "granted") return;

    const { access } = bond;
    if (silent && access.bond === bond) {
      access.bond = undefined;
      access.standby.push(bond);
      const [oldest] = access.standby;
      if (access.standby.length > STANDBY_MAX && oldest !== undefined) {
        this.#endBond(oldest, "NO_ERROR", "too many silent tunnels");
      }
    } else if (!silent && access.bond === undefined) {
      access.standby.splice(access.standby.indexOf(bond), 1);
      access.bond = bond;
      this.#tunnels.grantAgain(pair, service);
    }
    this.#advance(access, now);
  }

  /** Carries out what the links found: bonds that no relay holds up. */
  #settle(now: Instant): void {
    for (let ended = this.#links.pollEnded(); ended; ended = this.#links.pollEnded()) {
      this.#end(ended.bond, ended.failure, now);
    }
  }

  /** A session that served is over; somebody may still need it. */
  #end(bond: Bond, { code, reason, answer }: AccessFailure, now: Instant): void {
    const { access } = bond;
    this.#endBond(bond, "NO_ERROR", reason);
    access.lastFailure = { code, reason, answer };
    noteEnd(bond, now);
    const event = { type: "service-ended", service: access.service, code, reason } as const;
    this.#outputs.push({ type: "event", event });
    if (isUsed(bond, now) && access.bond === undefined) access.wantedUntil = after(now, WANTED_FOR);
    this.#advance(access, now);
  }

  #shun({ access, pair }: Bond, { code }: AccessFailure, now: Instant): void {
    for (const [instance, until] of access.avoid) if (until <= now) access.avoid.delete(instance);
    if (UNPROVEN_CODES.has(code)) access.avoid.set(pair.instance, after(now, AVOID_FOR));
  }

  #endBond(bond: Bond, code: CloseCodeName, reason: string): void {
    const { access, pair } = bond;
    this.#links.release(bond, code, reason);
    this.#tunnels.drop(pair, access.service);
    if (access.bond === bond) access.bond = undefined;
    const standby = access.standby.indexOf(bond);
    if (standby >= 0) access.standby.splice(standby, 1);
  }

  #endAll(access: Access, code: CloseCodeName, reason: string): void {
    for (const bond of bondsOf(access)) this.#endBond(bond, code, reason);
  }

  #fail(access: Access, failure: AccessFailure, now: Instant): void {
    const { service } = access;
    access.failures += 1;
    access.failedAt = now;
    access.lastFailure = moreTelling(access, failure, now);
    access.wantedUntil = undefined;
    access.asked.clear();
    this.#refuse(service, failure);
  }

  /** Nobody can wait longer, although the session may still come. */
  #giveUpWaiting(access: Access): void {
    const { bond, ask, service } = access;
    const failure = bond === undefined && ask === undefined ? NO_RELAY : STILL_OPENING;
    access.wantedUntil = undefined;
    access.lastFailure = failure;
    this.#refuse(service, failure);
  }

  #refuse(service: string, { code, reason, answer }: AccessFailure): void {
    this.#outputs.push({ type: "command", command: { type: "refuse-service", service, answer } });
    this.#outputs.push({ type: "event", event: { type: "service-failed", service, code, reason } });
  }

  /** Returns whether one more session fits, letting go of the one that was idle for longest. */
  #makeRoom(): boolean {
    const accesses = [...this.#accesses.values()];
    const bonds = accesses.flatMap(bondsOf);
    const asking = accesses.filter(({ ask }) => ask !== undefined).length;
    if (bonds.length + asking < this.#sessionsMax) return true;

    const idlest = idlestOf(bonds);
    if (idlest === undefined) return false;
    this.#endBond(idlest, "NO_ERROR", "made room for another service");
    return true;
  }

  #accessTo(service: string, now: Instant): Access {
    const access = this.#accesses.get(service) ?? newAccess(service, now);
    this.#accesses.set(service, access);
    return access;
  }

  #bondOf(pair: Pair, service: string): Bond | undefined {
    const access = this.#accesses.get(service);
    return access === undefined ? undefined : bondOn(access, pair);
  }
}
