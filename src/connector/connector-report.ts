/** What the connector tells, as log lines, audit lines and counters. */
import type { Clock } from "../base/time.ts";
import { ClientReport } from "../observability/client-report.ts";
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { EndpointEvent, FlowEvent } from "../transport/endpoint.ts";
import type { BackendEvent } from "./backend-watch.ts";
import type { ConnectorEvent } from "./connector-event.ts";

export class ConnectorReport {
  readonly #logger: Logger;
  readonly #client: ClientReport;
  #refusedSessions = 0;
  #tcpFlows = 0;
  #tcpErrors = 0;

  constructor(logger: Logger, clock: Pick<Clock, "now">) {
    this.#logger = logger;
    this.#client = new ClientReport(logger, clock);
  }

  get counters() {
    return {
      ...this.#client.counters,
      ztna_connector_reconnections_total: this.#client.reconnections,
      ztna_connector_sessions_refused_total: this.#refusedSessions,
      ztna_connector_tcp_sessions_total: this.#tcpFlows,
      ztna_connector_tcp_errors_total: this.#tcpErrors,
    } satisfies RoleFigures<"connector">;
  }

  noteReload(): void {
    this.#client.noteReload();
  }

  /** Notes what the data plane tells and no machine takes. */
  noteEndpoint(event: EndpointEvent): void {
    if (event.type === "handshake-refused") {
      this.#client.noteRefusedHandshake(event);
    } else if (event.type === "flow") {
      this.#noteFlow(event);
    }
  }

  note(event: ConnectorEvent): void {
    switch (event.type) {
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
      case "tunnel-refused":
        this.#client.noteRefusedTunnel(event.identity, event.reason);
        return;
      case "tunnel-violation":
        this.#client.noteTunnelViolation(event.identity, event.reason);
        return;
      case "revocations-left-out":
        this.#logger.warn("limit reached", { reason: "revocations", count: event.count });
        return;
      default:
        this.#client.noteLeg(event);
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

  #noteFlow(event: FlowEvent): void {
    const { kind, change, count } = event;
    if (kind === "tcp" && change === "opened") this.#tcpFlows += count;
    if (kind === "tcp" && change === "refused") this.#tcpErrors += count;
    this.#client.noteFlow(event);
  }
}

type RegistrationEvent = Extract<
  ConnectorEvent,
  { readonly type: "registered" | `registration-${string}` }
>;
