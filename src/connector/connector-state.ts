/**
 * The connector: registered at every relay, it takes their offers and judges their agents.
 *
 * What an agent may do is decided in `access-table.ts`; this machine talks:
 *
 * - **Registration is declarative**: the whole list of services and the sessions held, sent again
 *   over each new leg and after each change.
 * - **An offer is taken** for a service that is provided here and for an identity and key that nobody
 *   revoked. The relay's word opens a channel and nothing else.
 * - **Each `open` is judged by itself** and leaves a line in the audit trail; whatever was missing, the
 *   agent hears the same words.
 * - **A session that ended is reported** once its flows had time to end ({@link REPORT_AFTER}).
 * - **A revocation takes effect in the step that it arrives in**: sessions, tunnels, later handshakes.
 */
import type { StateMachine } from "../base/state-machine.ts";
import { after, type Duration, earliest, type Instant, isDue, ms, seconds } from "../base/time.ts";
import { failure } from "../leg/relay-leg.ts";
import { newRelaySlot, RelayLegs, type RelayNews } from "../leg/relay-legs.ts";
import { parseIdentity } from "../policy/identity.ts";
import type {
  Failed,
  LegMessage,
  RegisteredService,
  RegisterOk,
  SessionOffer,
} from "../protocol/messages.ts";
import { AccessTable } from "./access-table.ts";
import { type Session, usageSince } from "./agent-pair.ts";
import type { ConnectorEvent } from "./connector-event.ts";
import type {
  ConnectorInput,
  ConnectorOutput,
  ConnectorRelaySlot,
  ConnectorStateOptions,
  ConnectorView,
} from "./connector-values.ts";
import { registerRequest } from "./registration.ts";
import { RevocationList, type RevokedName } from "./revocation-list.ts";
import { TunnelControl } from "./tunnel-control.ts";

/** An order to end a session is done within 100 ms (`docs/protocol.md`): then its flows are over. */
export const REPORT_AFTER: Duration = ms(100);
/** Between registrations that failed. */
export const REGISTER_RETRY: Duration = seconds(2);

/** A revocation may touch every session there is: what it causes goes out in portions. */
const OUTPUTS_PER_STEP_MAX = 2000;

/** Features of this version: none yet that both sides would have to agree on. */
const FEATURES: readonly string[] = [];

export class ConnectorState implements StateMachine<ConnectorInput, ConnectorOutput> {
  readonly #legs: RelayLegs<ConnectorRelaySlot>;
  readonly #access: AccessTable;
  readonly #tunnels: TunnelControl;
  readonly #revocations: RevocationList;
  readonly #outputs: ConnectorOutput[] = [];
  #outputsLeft = OUTPUTS_PER_STEP_MAX;
  #now: Instant;
  /** Sessions to report, in the order of their time. */
  readonly #reports: { readonly at: Instant; readonly session: Session }[] = [];
  #services: ReadonlyMap<string, RegisteredService>;

  constructor(options: ConnectorStateOptions, now: Instant) {
    this.#legs = new RelayLegs(
      options.relays.map((relay) => ({
        ...newRelaySlot(relay, { ...options, features: FEATURES }, now),
        registering: undefined,
        registerAt: undefined,
        accepted: [],
      })),
    );
    this.#services = byName(options.services);
    this.#now = now;
    this.#access = new AccessTable(options);
    this.#revocations = new RevocationList(options.relays.length);
    this.#tunnels = new TunnelControl(this.#access, {
      randomHex: options.randomHex,
      features: FEATURES,
      services: () => this.#services,
    });
  }

  /** For `status` and metrics: a view that changes with the machine, not a copy. */
  get view(): ConnectorView {
    const revocations = this.#revocations;
    return {
      relays: this.#legs.slots,
      access: this.#access,
      get revocations() {
        return revocations.all;
      },
    };
  }

  handleInput(input: ConnectorInput, now: Instant): void {
    this.#beginStep(now);
    switch (input.type) {
      case "start":
        this.#legs.handleStart(now);
        break;
      case "services":
        this.#setServices(input.services, now);
        break;
      case "identities":
        this.#access.handleIdentities();
        this.#legs.handleIdentities(now);
        break;
      case "handshake":
        if (input.kind === "leg") this.#legs.handleHandshake(input);
        else this.#access.handleHandshake(input, (peer) => this.#revocations.hasLeaf(peer));
        break;
      case "control":
        this.#tunnels.handleControl(input, now);
        this.#legs.handleControl(input, now);
        break;
      case "closed":
        this.#access.handleClosed(input);
        this.#legs.handleClosed(input, now);
        break;
      case "leg-silent":
        this.#legs.handleLegSilent(input, now);
        break;
      case "flow":
        this.#access.handleFlow(input);
        break;
    }
    this.#settle(now);
  }

  handleTimeout(now: Instant): void {
    this.#beginStep(now);
    this.#legs.handleTimeout(now);
    for (const [index, { registerAt }] of this.#legs.slots.entries()) {
      if (isDue(registerAt, now)) this.#register(index, now);
    }
    this.#access.handleTimeout(now);
    this.#tunnels.handleTimeout(now);
    for (let next = this.#reports[0]; next && next.at <= now; next = this.#reports[0]) {
      this.#reports.shift();
      this.#report(next.session);
    }
    this.#settle(now);
  }

  pollOutput(): ConnectorOutput | undefined {
    if (this.#outputsLeft === 0) return undefined;

    const output = this.#outputs.shift();
    if (output !== undefined) this.#outputsLeft -= 1;
    return output;
  }

  pollTimeout(): Instant | undefined {
    if (this.#outputs.length > 0) return this.#now;
    const registrations = this.#legs.slots.map(({ registerAt }) => registerAt);
    const parts = [this.#legs, this.#access, this.#tunnels].map((part) => part.pollTimeout());
    const due = [...registrations, ...parts, this.#reports[0]?.at];
    return earliest(...due.filter((at) => at !== undefined));
  }

  #beginStep(now: Instant): void {
    this.#now = now;
    this.#outputsLeft = OUTPUTS_PER_STEP_MAX;
  }

  #setServices(services: readonly RegisteredService[], now: Instant): void {
    this.#services = byName(services);
    this.#access.endWhere(
      ({ service }) => !this.#services.has(service),
      "the service is not provided here",
      now,
    );
    for (const index of this.#legs.slots.keys()) this.#register(index, now);
  }

  /**
   * Passes on what the parts have to say until none has anything left. One thing at a time, so that
   * commands leave in the order of their causes: a channel is open before its offer is answered.
   */
  #settle(now: Instant): void {
    while (this.#settleAccess(now) || this.#settleLegs(now));
  }

  #settleAccess(now: Instant): boolean {
    const command = this.#access.pollCommand();
    if (command !== undefined) {
      this.#outputs.push({ type: "command", command });
      return true;
    }
    const event = this.#access.pollEvent() ?? this.#tunnels.pollEvent();
    if (event !== undefined) {
      this.#emit(event);
      return true;
    }
    const session = this.#access.pollEnded();
    if (session === undefined) return false;

    this.#reports.push({ at: after(now, REPORT_AFTER), session });
    return true;
  }

  #settleLegs(now: Instant): boolean {
    return this.#legs.settle(this.#outputs, (news) => this.#handleNews(news, now));
  }

  #handleNews(news: RelayNews, now: Instant): void {
    const { relay } = news;
    const slot = this.#legs.slots[relay];
    if (slot === undefined) return;
    switch (news.type) {
      case "ready":
        if (news.newEpoch) {
          this.#access.handleNewEpoch(relay, now);
          this.#revocations.handleNewEpoch(relay);
        } else {
          this.#access.handleNewLeg(relay, news.connection);
        }
        this.#register(relay, now);
        return;
      case "lost":
        slot.accepted = [];
        return;
      case "answered":
        if (news.request === slot.registering) this.#handleRegistered(relay, news.answer, now);
        return;
      case "unanswered":
        if (news.request === slot.registering) this.#registerLater(slot, news.reason, now);
        return;
      case "late-answer":
        return;
      case "message":
        this.#handleMessage(relay, slot, news.message, now);
        return;
    }
  }

  #handleMessage(index: number, slot: ConnectorRelaySlot, message: LegMessage, now: Instant): void {
    switch (message.type) {
      case "session-offer":
        this.#handleOffer(index, slot, message, now);
        return;
      case "session-renew":
        this.#access.renew(index, message.session, message.leaseMs, now);
        return;
      case "session-close":
        this.#access.close(index, message.session, message.code, message.reason, now);
        return;
      case "revoked":
        this.#revoke(index, [message], now);
        return;
      default:
        return;
    }
  }

  #handleOffer(
    index: number,
    { leg }: ConnectorRelaySlot,
    offer: SessionOffer,
    now: Instant,
  ): void {
    const { request } = offer;
    const refusal = this.#complaintAbout(index, offer);
    if (refusal !== undefined) {
      leg.send(failure(request, refusal, "not taken"));
      const { service, agent } = offer;
      const { identity } = agent;
      this.#emit({ type: "offer-refused", service, identity, code: refusal });
      return;
    }
    const { connection } = leg;
    if (connection === undefined) return;

    const channelId = this.#access.accept(index, connection, offer, now);
    // The channel's path is open before the relay hears of it.
    while (this.#settleAccess(now));
    leg.send({ type: "session-offer-ok", request, channelId });
  }

  #complaintAbout(
    relay: number,
    { service, agent, session }: SessionOffer,
  ): Failed["code"] | undefined {
    if (!this.#services.has(service)) return "not-available";
    if (parseIdentity(agent.identity)?.role !== "agent") return "refused";
    if (this.#revocations.hasKey(agent.spki)) return "refused";
    if (!this.#access.holds(relay, session) && !this.#access.hasRoom) return "limit-exceeded";
    return undefined;
  }

  #register(index: number, now: Instant): void {
    const slot = this.#legs.slots[index];
    if (slot === undefined) return;

    slot.registerAt = undefined;
    if (slot.leg.connection === undefined) return;
    const held = this.#access.sessionsOf(index);
    const seen = this.#revocations.seen(index);
    const body = registerRequest([...this.#services.values()], held, seen);
    slot.registering = slot.leg.request(body, now);
    if (slot.registering === undefined) this.#registerLater(slot, "too many requests", now);
  }

  #registerLater(slot: ConnectorRelaySlot, reason: string, now: Instant): void {
    slot.registering = undefined;
    if (slot.leg.connection === undefined) return;
    slot.registerAt = after(now, REGISTER_RETRY);
    this.#emit({ type: "registration-failed", relay: slot.name, reason });
  }

  #handleRegistered(index: number, answer: LegMessage, now: Instant): void {
    const slot = this.#legs.slots[index];
    if (slot === undefined) return;
    if (answer.type === "register-ok") this.#applyRegistration(index, slot, answer, now);
    else this.#registerLater(slot, answer.type === "failed" ? answer.reason : answer.type, now);
  }

  #applyRegistration(
    index: number,
    slot: ConnectorRelaySlot,
    answer: RegisterOk,
    now: Instant,
  ): void {
    const { accepted, rejected, close, revoked } = answer;
    slot.registering = undefined;
    slot.accepted = accepted;
    this.#emit({ type: "registered", relay: slot.name, services: accepted });
    for (const { name: service, code } of rejected) {
      this.#emit({ type: "registration-rejected", relay: slot.name, service, code });
    }
    for (const session of close) {
      this.#access.close(index, session, "NO_ERROR", "the relay does not know it", now);
    }
    this.#revoke(index, revoked, now);
  }

  #revoke(relay: number, names: readonly RevokedName[], now: Instant): void {
    const added = names.filter((name) => this.#revocations.add(relay, name));
    if (added.length === 0) return;

    const keys = new Set(added.flatMap(({ spki }) => (spki === undefined ? [] : [spki])));
    const isRevoked = (peer: { spki: string; issuer: string; serial: string }) =>
      this.#revocations.hasLeaf(peer);
    this.#access.endWhere(
      ({ spki, pair }) => {
        const peer = pair.tunnel?.peer;
        return keys.has(spki) || (peer?.spki === spki && isRevoked(peer));
      },
      "REVOKED",
      now,
    );
    this.#access.closeTunnelsWhere(isRevoked, "REVOKED", "the certificate is revoked");
    this.#outputs.push({ type: "revocations" });
    const { leftOut } = this.#revocations;
    if (leftOut > 0) this.#emit({ type: "revocations-left-out", count: leftOut });
  }

  #report(session: Session): void {
    const { flows, bytes } = usageSince(session);
    const message = { type: "session-closed", session: session.id, flows, bytes } as const;
    this.#legs.slots[session.relay]?.leg.send(message);
  }

  #emit(event: ConnectorEvent): void {
    this.#outputs.push({ type: "event", event });
  }
}

function byName(services: readonly RegisteredService[]): ReadonlyMap<string, RegisteredService> {
  return new Map(services.map((service) => [service.name, service]));
}
