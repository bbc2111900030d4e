/** What the relay's state machine tells, as log lines, audit lines and counters. */
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { RelayEvent } from "./relay-values.ts";

export class RelayReport {
  readonly #logger: Logger;
  #refusedHandshakes = 0;
  #violations = 0;
  #registrations = 0;
  #rejections = 0;
  #sessionsOpened = 0;
  #sessionsRefused = 0;
  #reloads = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counters() {
    return {
      ztna_handshakes_refused_total: this.#refusedHandshakes,
      ztna_protocol_violations_total: this.#violations,
      ztna_registrations_total: this.#registrations,
      ztna_registration_rejections_total: this.#rejections,
      ztna_signaling_sessions_total: this.#sessionsOpened,
      ztna_sessions_refused_total: this.#sessionsRefused,
      ztna_configuration_reloads_total: this.#reloads,
      ztna_log_lines_dropped_total: this.#logger.linesDropped,
    } satisfies RoleFigures<"relay">;
  }

  noteReload(): void {
    this.#reloads++;
  }

  noteHandshakeRefused(remote: string | undefined, reason: string, detail: string): void {
    this.#refusedHandshakes++;
    const fields = remote === undefined ? { reason, detail } : { remote, reason, detail };
    this.#logger.warn("handshake refused", fields);
  }

  note(event: RelayEvent): void {
    switch (event.type) {
      case "leg-refused":
      case "leg-up":
      case "leg-down":
      case "protocol-violation":
      case "frame-rate-exceeded":
      case "limit-reached":
        this.#noteLeg(event);
        break;
      case "registered":
      case "registration-rejected":
      case "withdrawn":
        this.#noteRegistration(event);
        break;
      case "decided": {
        const { type: _, spki: detail, ...fields } = event;
        this.#logger.audit({ ...fields, detail });
        break;
      }
      case "session-up":
      case "session-renewed":
      case "session-refused":
      case "session-down":
      case "session-usage":
      case "offer-unanswered":
        this.#noteSession(event);
        break;
    }
  }

  #noteLeg(event: LegEvent): void {
    switch (event.type) {
      case "leg-refused": {
        const { type: _, ...fields } = event;
        this.#refusedHandshakes++;
        this.#logger.warn("leg refused", fields);
        break;
      }
      case "leg-up": {
        const { identity, role: kind, instance: peer } = event;
        this.#logger.info("leg up", { identity, kind, peer });
        break;
      }
      case "leg-down": {
        const { type: _, ...fields } = event;
        if (event.reason === "superseded") this.#logger.info("leg superseded", fields);
        else this.#logger.warn("leg lost", fields);
        break;
      }
      case "protocol-violation": {
        const { type: _, ...fields } = event;
        this.#violations++;
        this.#logger.warn("protocol violation", fields);
        break;
      }
      case "frame-rate-exceeded":
        this.#logger.warn("limit reached", { identity: event.identity, reason: "control frames" });
        break;
      case "limit-reached":
        this.#logger.warn("limit reached", { identity: event.identity, reason: event.limit });
        break;
    }
  }

  #noteRegistration(event: RegistrationEvent): void {
    const { identity } = event;
    switch (event.type) {
      case "registered":
        this.#registrations += event.services.length;
        this.#logger.info("service registered", { identity, ...namesOf(event.services) });
        break;
      case "registration-rejected": {
        const { rejected } = event;
        const names = namesOf(rejected.map(({ name }) => name));
        const code = [...new Set(rejected.map((it) => it.code))].join(", ");
        this.#rejections += rejected.length;
        this.#logger.warn("service registration rejected", { identity, ...names, code });
        break;
      }
      case "withdrawn":
        this.#logger.info("service withdrawn", { identity, ...namesOf(event.services) });
        break;
    }
  }

  #noteSession(event: SessionEvent): void {
    switch (event.type) {
      case "session-up": {
        const { type: _, connector: peer, ...fields } = event;
        this.#sessionsOpened++;
        this.#logger.info("session up", { ...fields, peer });
        break;
      }
      case "session-renewed":
        this.#logger.debug("session renewed", { session: event.session });
        break;
      case "session-refused": {
        const { type: _, ...fields } = event;
        this.#sessionsRefused++;
        this.#logger.info("session refused", fields);
        break;
      }
      case "session-down": {
        const { type: _, ...fields } = event;
        this.#logger.info("session down", fields);
        break;
      }
      case "session-usage": {
        const { type: _, flows: count, ...fields } = event;
        this.#logger.info("session usage", { ...fields, count });
        break;
      }
      case "offer-unanswered":
        this.#logger.warn("offer unanswered", { identity: event.identity });
        break;
    }
  }
}

/** Names of services in one log line; the count tells whether there are more. */
export const NAMES_PER_LINE_MAX = 16;

function namesOf(services: readonly string[]) {
  return { service: services.slice(0, NAMES_PER_LINE_MAX).join(", "), count: services.length };
}

type EventOf<Type extends RelayEvent["type"]> = Extract<RelayEvent, { readonly type: Type }>;
type LegEvent = EventOf<
  | "leg-refused"
  | "leg-up"
  | "leg-down"
  | "protocol-violation"
  | "frame-rate-exceeded"
  | "limit-reached"
>;
type RegistrationEvent = EventOf<"registered" | "registration-rejected" | "withdrawn">;
type SessionEvent = EventOf<
  | "session-up"
  | "session-renewed"
  | "session-refused"
  | "session-down"
  | "session-usage"
  | "offer-unanswered"
>;
