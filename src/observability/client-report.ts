/**
 * What agent and connector tell alike: their legs, refusals, violations, flows.
 *
 * A relay that refuses, or is refused, is dialled again and again: each reason is said once, until a
 * leg is up. What breaks the protocol again and again is said once, too. Counters count each.
 */
import type { Clock } from "../base/time.ts";
import type { LogFields } from "./log-events.ts";
import type { Logger } from "./logger.ts";
import { counted, Repeats } from "./repeats.ts";

/** The part of a leg's news that is reported. */
type LegNews =
  | {
      readonly type: "relay-ready";
      readonly relay: string;
      readonly observed: string;
      readonly newEpoch: boolean;
    }
  | {
      readonly type: "relay-lost" | "relay-violation";
      readonly relay: string;
      readonly reason: string;
    }
  | {
      readonly type: "relay-attempt-failed";
      readonly relay: string;
      readonly reason: string;
      readonly refused: boolean;
    }
  | { readonly type: "relay-draining"; readonly relay: string };

interface FlowNews {
  readonly service: string;
  readonly kind: string;
  readonly change: "opened" | "refused" | "closed";
  readonly code?: number;
  readonly count: number;
}

interface RefusedHandshake {
  readonly remote?: string;
  readonly reason: string;
  readonly detail: string;
}

export class ClientReport {
  readonly #logger: Logger;
  readonly #refusals: Repeats;
  readonly #violations: Repeats;
  /** Relays that were connected at least once. */
  readonly #known = new Set<string>();
  #reconnections = 0;
  #refusedHandshakes = 0;
  #violationsSeen = 0;
  #reloads = 0;

  constructor(logger: Logger, clock: Pick<Clock, "now">) {
    this.#logger = logger;
    this.#refusals = new Repeats(clock);
    this.#violations = new Repeats(clock);
  }

  /** Legs dialled after the first. */
  get reconnections(): number {
    return this.#reconnections;
  }

  get counters() {
    return {
      ztna_handshakes_refused_total: this.#refusedHandshakes,
      ztna_protocol_violations_total: this.#violationsSeen,
      ztna_configuration_reloads_total: this.#reloads,
      ztna_log_lines_dropped_total: this.#logger.linesDropped,
    };
  }

  noteReload(): void {
    this.#reloads++;
  }

  noteLeg(news: LegNews): void {
    const { relay } = news;
    switch (news.type) {
      case "relay-ready":
        if (this.#known.has(relay)) this.#reconnections++;
        this.#known.add(relay);
        this.#refusals.forget(relay);
        this.#logger.info("leg up", { relay, local: news.observed });
        if (news.newEpoch) this.#logger.info("relay restarted", { relay });
        return;
      case "relay-lost":
        this.#logger.warn("leg lost", { relay, reason: news.reason });
        return;
      case "relay-violation":
        this.#noteViolation(relay, { relay, reason: news.reason });
        return;
      case "relay-attempt-failed":
        if (news.refused) this.#noteRefusedLeg(relay, news.reason);
        else this.#logger.debug("leg dial failed", { relay, reason: news.reason });
        return;
      case "relay-draining":
        this.#logger.info("relay draining", { relay });
        return;
    }
  }

  /** The peer of a tunnel broke the protocol. */
  noteTunnelViolation(peer: string, reason: string): void {
    this.#noteViolation(peer, { peer, reason });
  }

  /** The data plane refused a handshake. Of a leg that is dialled the relay's name is told instead. */
  noteRefusedHandshake({ remote, reason, detail }: RefusedHandshake): void {
    if (remote !== undefined) return;

    this.#refusedHandshakes++;
    this.#logger.warn("handshake refused", { reason, detail });
  }

  noteRefusedTunnel(identity: string, reason: string): void {
    this.#refusedHandshakes++;
    this.#logger.warn("tunnel refused", { identity, reason });
  }

  /** Says once what happened to flows alike at about the same time, and to how many. */
  noteFlow({ service, kind, change, code, count }: FlowNews): void {
    const fields = { service, kind, ...(code === undefined ? {} : { code }), ...counted(count) };
    if (change === "opened") this.#logger.debug("flow opened", fields);
    else if (change === "refused") this.#logger.debug("flow refused", fields);
    else this.#logger.debug("flow closed", fields);
  }

  #noteRefusedLeg(relay: string, reason: string): void {
    this.#refusedHandshakes++;
    const times = this.#refusals.note(relay, reason);
    if (times === undefined) this.#logger.debug("leg refused again", { relay, reason });
    else this.#logger.warn("leg refused", { relay, reason, ...counted(times) });
  }

  #noteViolation(peer: string, fields: LogFields & { readonly reason: string }): void {
    this.#violationsSeen++;
    const times = this.#violations.note(peer, fields.reason);
    if (times === undefined) this.#logger.debug("protocol violation again", fields);
    else this.#logger.warn("protocol violation", { ...fields, ...counted(times) });
  }
}
