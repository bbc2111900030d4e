/**
 * What connectors provide: taken from `register`, judged by policy, told to agents.
 *
 * A registration is the full list, so what is missing from it is withdrawn, and with it go its
 * sessions. The list of sessions in it is full as well, unless it is as long as a list or a frame
 * may be: then the connector had to leave some out.
 */
import type { Instant } from "../base/time.ts";
import { seconds } from "../base/time.ts";
import type { FailureCode } from "../protocol/failure-codes.ts";
import {
  CONTROL_FRAME_BYTES_MAX,
  REVOCATIONS_PER_REGISTER_MAX,
  SESSIONS_PER_REGISTER_MAX,
} from "../protocol/limits.ts";
import type { Register, RegisteredService } from "../protocol/messages.ts";
import type { Leg, Peer, PeerTable } from "./peer-table.ts";
import type { Registry } from "./registry.ts";
import type { RelayContext } from "./relay-context.ts";
import type { Rejection, Revocation } from "./relay-values.ts";
import type { RevocationLog } from "./revocation-log.ts";
import type { ServiceLists } from "./service-lists.ts";
import type { SessionOpenings } from "./session-openings.ts";
import type { SessionTable } from "./session-table.ts";

/** `docs/protocol.md` §5: how long a connector keeps a session that this epoch has not confirmed. */
export const UNCONFIRMED_SESSION_WAIT = seconds(120);

interface Parts {
  readonly peers: PeerTable;
  readonly registry: Registry;
  readonly sessions: SessionTable;
  readonly openings: SessionOpenings;
  readonly lists: ServiceLists;
  readonly revocations: RevocationLog;
}

export class Registration {
  readonly #context: RelayContext;
  readonly #parts: Parts;

  constructor(context: RelayContext, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  handleRegister(leg: Leg, connector: Peer, message: Register, now: Instant): void {
    const { accepted, rejected } = this.#judge(connector, message.services);
    connector.registeredAt ??= now;
    const close = this.#judgeSessions(connector, message, now);
    const revoked = this.#untold(leg, message.revocationsSeen);
    const answer = {
      type: "register-ok",
      request: message.request,
      accepted: accepted.map(({ name }) => name),
      rejected,
      close,
    } as const;
    const fitting = howManyFit(revoked, CONTROL_FRAME_BYTES_MAX - bytesOf(answer) - REVOKED_BYTES);
    this.#context.sendOn(leg, { ...answer, revoked: revoked.slice(0, fitting) });
    for (const revocation of revoked.slice(fitting)) {
      this.#context.sendOn(leg, { type: "revoked", ...revocation });
    }

    this.#replace(connector, accepted, "the connector withdrew it", now);
    this.#parts.openings.handleRegistered(connector, now);
  }

  /** The connector is gone. */
  drop(connector: Peer, now: Instant): void {
    if (this.#parts.registry.servicesOf(connector.key).length === 0) return;
    this.#replace(connector, [], "the connector is gone", now);
  }

  /** Judges everything by the policy in force. */
  handlePolicy(now: Instant): void {
    for (const session of [...this.#parts.sessions.all()]) {
      if (this.#parts.sessions.isAllowed(session)) continue;
      this.#parts.sessions.end(session, "FORBIDDEN", "policy does not allow it");
    }
    for (const peer of this.#parts.peers.peers.values()) {
      const services = this.#parts.registry.servicesOf(peer.key);
      const allowed = services.filter(({ name }) => this.#isAllowed(peer, name));
      if (allowed.length < services.length) this.#replace(peer, allowed, "policy", now);
    }
    this.#parts.lists.handlePolicy(now);
  }

  /** Returns the revocations that the connector has not seen and was not told on this leg. */
  #untold(leg: Leg, seen: number): readonly Revocation[] {
    const { revocations } = this.#parts;
    const told = leg.revocationsTold ?? 0;
    leg.revocationsTold = revocations.latest;
    return revocations.after(seen, told);
  }

  #judge(connector: Peer, services: readonly RegisteredService[]) {
    const accepted: RegisteredService[] = [];
    const rejected: Rejection[] = [];
    const seen = new Set<string>();
    for (const service of services) {
      const code = this.#rejection(connector, service.name, seen, accepted.length);
      seen.add(service.name);
      if (code === undefined) accepted.push(service);
      else rejected.push({ name: service.name, code });
    }
    if (rejected.length > 0) {
      const identity = connector.proven.identity.uri;
      this.#context.event({ type: "registration-rejected", identity, rejected });
    }
    return { accepted, rejected };
  }

  #rejection(
    connector: Peer,
    name: string,
    seen: ReadonlySet<string>,
    accepted: number,
  ): FailureCode | undefined {
    if (seen.has(name)) return "invalid";
    if (!this.#isAllowed(connector, name)) return "refused";
    if (accepted >= this.#context.settings.limits.servicesPerConnector) return "limit-exceeded";
    return undefined;
  }

  #isAllowed({ proven }: Peer, name: string): boolean {
    return this.#context.policy.decide(proven, name).effect === "allow";
  }

  #replace(
    connector: Peer,
    services: readonly RegisteredService[],
    reason: string,
    now: Instant,
  ): void {
    const { registry, sessions, lists } = this.#parts;
    const before = new Set(registry.servicesOf(connector.key).map(({ name }) => name));
    const changed = registry.set(connector.key, services);
    const identity = connector.proven.identity.uri;
    const added = services.map(({ name }) => name).filter((name) => !before.delete(name));
    if (added.length > 0) this.#context.event({ type: "registered", identity, services: added });
    if (before.size > 0) {
      this.#context.event({ type: "withdrawn", identity, services: [...before] });
    }
    for (const session of [...connector.sessions]) {
      if (before.has(session.service)) sessions.end(session, "NO_ERROR", reason);
    }
    lists.handleChange(changed, now);
  }

  /** Returns the ids that the connector shall end, and ends the sessions that it does not hold. */
  #judgeSessions(connector: Peer, message: Register, now: Instant): readonly string[] {
    const { sessions } = this.#parts;
    const { sessions: held } = message;
    const offered = new Set([...connector.offers.values()].map(({ terms }) => terms.session));
    const isSettled = now - (connector.registeredAt ?? now) >= UNCONFIRMED_SESSION_WAIT;
    const close = held.filter((id) => {
      const session = sessions.get(id);
      if (session !== undefined) return session.connector !== connector;
      return !offered.has(id) && (sessions.hasEnded(id) || isSettled);
    });

    if (isComplete(message)) {
      const ids = new Set(held);
      for (const session of [...connector.sessions]) {
        if (ids.has(session.id)) continue;
        sessions.end(session, "NO_ERROR", "the connector does not hold it", connector);
      }
    }
    return close;
  }
}

/** Whether the list of sessions had room for more. */
function isComplete(message: Register): boolean {
  const { length } = message.sessions;
  return length < SESSIONS_PER_REGISTER_MAX && bytesOf(message) < FULL_REGISTER_BYTES;
}

/** Returns how many of the first revocations an answer takes that has so much room left. */
function howManyFit(revocations: readonly Revocation[], bytesMax: number): number {
  let bytes = 0;
  const first = revocations.slice(0, REVOCATIONS_PER_REGISTER_MAX);
  const over = first.findIndex((revocation) => {
    bytes += bytesOf(revocation) + 1;
    return bytes > bytesMax;
  });
  return over === -1 ? first.length : over;
}

/** Ids, names and digits are ASCII: characters are octets. */
function bytesOf(value: object): number {
  return JSON.stringify(value).length;
}

/** A frame of this size may have been filled by a connector that keeps a margin of 1 KiB. */
const FULL_REGISTER_BYTES = CONTROL_FRAME_BYTES_MAX - 1024;

/** `,"revoked":[]`. */
const REVOKED_BYTES = 13;
