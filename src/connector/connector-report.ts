/** What the connector tells, as log lines, audit lines and counters. */
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { EndpointEvent, FlowEvent } from "../transport/endpoint.ts";
import type { BackendEvent } from "./backend-watch.ts";
import type { ConnectorEvent } from "./connector-event.ts";

export class ConnectorReport {
  readonly #logger: Logger;
  /** Relays that were connected at least once. */
  readonly #known = new Set<string>();
  #reconnections = 0;
  #refusedHandshakes = 0;
  #refusedSessions = 0;
  #tcpFlows = 0;
  #tcpErrors = 0;
  #reloads = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counters() {
    return {
      ztna_connector_reconnections_total: this.#reconnections,
      ztna_handshakes_refused_total: this.#refusedHandshakes,
      ztna_connector_sessions_refused_total: this.#refusedSessions,
      ztna_connector_tcp_sessions_total: this.#tcpFlows,
      ztna_connector_tcp_errors_total: this.#tcpErrors,
      ztna_configuration_reloads_total: this.#reloads,
    } satisfies RoleFigures<"connector">;
  }

  noteReload(): void {
    this.#reloads++;
  }

  /** Notes what the data plane tells and no machine takes. */
  noteEndpoint(event: EndpointEvent): void {
    if (event.type === "handshake-refused") {
      this.#refusedHandshakes++;
      const { remote, reason, detail } = event;
      const fields = { reason, detail };
      this.#logger.warn("handshake refused", remote === undefined ? fields : { ...fields, remote });
    } else if (event.type === "flow") {
      this.#noteFlow(event);
    }
  }

  note(event: ConnectorEvent): void {
    switch (event.type) {
      case "relay-ready":
      case "relay-lost":
      case "relay-attempt-failed":
      case "relay-draining":
        this.#noteRelay(event);
        return;
      case "registered":
      case "registration-rejected":
      case "registration-failed":
        this.#noteRegistration(event);
        return;
      case "access": {
        const { type: _, ...fields } = event;
        if (event.decision === "deny") this.#refusedSessions++;
        this.#logger.audit(fields);
        return;
      }
      case "offer-refused": {
        const { type: _, ...fields } = event;
        this.#refusedSessions++;
        this.#logger.info("session refused", fields);
        return;
      }
      case "session-opened": {
        const { type: _, ...fields } = event;
        this.#logger.info("session up", fields);
        return;
      }
      case "session-ended": {
        const { type: _, ...fields } = event;
        this.#logger.info("session down", fields);
        return;
      }
      case "tunnel-admitted":
        this.#logger.info("tunnel up", { identity: event.identity });
        return;
      case "tunnel-refused": {
        const { type: _, ...fields } = event;
        this.#refusedHandshakes++;
        this.#logger.warn("tunnel refused", fields);
        return;
      }
      case "revocations-left-out":
        this.#logger.warn("limit reached", { reason: "revocations", count: event.count });
        return;
    }
  }

  noteBackend(event: BackendEvent): void {
    const { backend: remote } = event;
    switch (event.type) {
      case "resolved":
        this.#logger.debug("backend resolved", { remote, detail: event.addresses.join(", ") });
        return;
      case "resolution-failed":
        this.#logger.warn("backend resolution failed", { remote, detail: event.detail });
        return;
      case "up":
        this.#logger.info("backend up", { remote });
        return;
      case "down":
        this.#logger.warn("backend down", { remote });
        return;
    }
  }

  #noteRelay(event: Extract<ConnectorEvent, { readonly type: `relay-${string}` }>): void {
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

  #noteRegistration(event: RegistrationEvent): void {
    const { relay } = event;
    switch (event.type) {
      case "registered":
        for (const service of event.services) {
          this.#logger.info("service registered", { relay, service });
        }
        return;
      case "registration-rejected": {
        const { service, code } = event;
        this.#logger.warn("service registration rejected", { relay, service, code });
        return;
      }
      case "registration-failed":
        this.#logger.warn("service registration rejected", { relay, reason: event.reason });
        return;
    }
  }

  #noteFlow({ service, kind, change, code }: FlowEvent): void {
    if (kind === "tcp" && change === "opened") this.#tcpFlows++;
    if (kind === "tcp" && change === "refused") this.#tcpErrors++;
    const fields = code === undefined ? { service, kind } : { service, kind, code };
    if (change === "opened") this.#logger.debug("flow opened", fields);
    else if (change === "refused") this.#logger.debug("flow refused", fields);
    else this.#logger.debug("flow closed", fields);
  }
}

type RegistrationEvent = Extract<
  ConnectorEvent,
  { readonly type: "registered" | `registration-${string}` }
>;
