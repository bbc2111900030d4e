/** What the agent tells, as log lines and counters. */
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { EndpointEvent, FlowEvent, PathEvent } from "../transport/endpoint.ts";
import type { AgentEvent } from "./agent-event.ts";

export class AgentReport {
  readonly #logger: Logger;
  /** Relays that were connected at least once. */
  readonly #known = new Set<string>();
  #reconnections = 0;
  #refusedHandshakes = 0;
  #sessionsOpened = 0;
  #sessionsRefused = 0;
  #reloads = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counters() {
    return {
      ztna_agent_reconnections_total: this.#reconnections,
      ztna_agent_sessions_opened_total: this.#sessionsOpened,
      ztna_agent_sessions_refused_total: this.#sessionsRefused,
      ztna_handshakes_refused_total: this.#refusedHandshakes,
      ztna_configuration_reloads_total: this.#reloads,
    } satisfies RoleFigures<"agent">;
  }

  noteReload(): void {
    this.#reloads++;
  }

  /** Notes what the data plane tells people. */
  noteEndpoint(event: EndpointEvent): void {
    switch (event.type) {
      case "handshake-refused": {
        this.#refusedHandshakes++;
        const { remote, reason, detail } = event;
        const fields = remote === undefined ? { reason, detail } : { remote, reason, detail };
        this.#logger.warn("handshake refused", fields);
        return;
      }
      case "path":
        this.#notePath(event);
        return;
      case "flow":
        this.#noteFlow(event);
        return;
      case "tun-opened":
        this.#logger.info("tun opened", { local: event.name });
        return;
      default:
        return;
    }
  }

  note(event: AgentEvent): void {
    switch (event.type) {
      case "service-granted":
        this.#sessionsOpened++;
        this.#logger.info("session up", {
          service: event.service,
          peer: event.peer,
          ...(event.session === undefined ? {} : { session: event.session }),
        });
        return;
      case "service-failed": {
        const { type: _, ...fields } = event;
        this.#sessionsRefused++;
        this.#logger.info("session refused", fields);
        return;
      }
      case "service-ended": {
        const { type: _, ...fields } = event;
        this.#logger.info("session down", fields);
        return;
      }
      case "tunnel-silent":
        if (event.silent) this.#logger.warn("tunnel silent", { peer: event.peer });
        else this.#logger.info("tunnel answers again", { peer: event.peer });
        return;
      case "services-left-out":
        this.#logger.warn("limit reached", {
          ...{ reason: "services", relay: event.relay, count: event.count },
        });
        return;
      default:
        this.#noteRelay(event);
    }
  }

  #noteRelay(event: Extract<AgentEvent, { readonly type: `relay-${string}` }>): void {
    const { relay } = event;
    switch (event.type) {
      case "relay-ready":
        if (this.#known.has(relay)) this.#reconnections++;
        this.#known.add(relay);
        this.#logger.info("leg up", { relay, local: event.observed });
        if (event.newEpoch) this.#logger.info("relay restarted", { relay });
        return;
      case "relay-lost":
        this.#logger.warn("leg lost", { relay, reason: event.reason });
        return;
      case "relay-attempt-failed":
        if (event.refused) {
          this.#refusedHandshakes++;
          this.#logger.warn("leg refused", { relay, reason: event.reason });
        } else {
          this.#logger.debug("leg dial failed", { relay, reason: event.reason });
        }
        return;
      case "relay-draining":
        this.#logger.info("relay draining", { relay });
        return;
    }
  }

  #notePath({ path, change, reason, rttUs }: PathEvent): void {
    const rtt = rttUs > 0 ? { rttMs: rttUs / 1000 } : {};
    const why = reason === undefined ? {} : { reason };
    const fields = { path: path.kind.toUpperCase(), remote: path.address, ...why, ...rtt };
    switch (change) {
      case "proven":
        this.#logger.debug("path proven", fields);
        return;
      case "selected":
        this.#logger.info("path selected", fields);
        return;
      case "suspect":
        this.#logger.info("path suspect", fields);
        return;
      case "recovered":
        this.#logger.info("path recovered", fields);
        return;
      case "lost":
        this.#logger.info("path lost", fields);
        return;
      case "mtu":
        this.#logger.debug("path mtu changed", fields);
        return;
    }
  }

  #noteFlow({ service, kind, change, code }: FlowEvent): void {
    const fields = code === undefined ? { service, kind } : { service, kind, code };
    if (change === "opened") this.#logger.debug("flow opened", fields);
    else if (change === "refused") this.#logger.debug("flow refused", fields);
    else this.#logger.debug("flow closed", fields);
  }
}
