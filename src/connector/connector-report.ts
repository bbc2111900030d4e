/**
 * What the connector tells, as log lines, audit lines and counters.
 *
 * An access that is allowed is an audit line each. A tunnel that is denied the same again and again is
 * one, and another with the sum after {@link DENIAL_SUM_AFTER}, so that nobody fills the trail.
 */
import { type Clock, type Duration, seconds } from "../base/time.ts";
import { ClientReport } from "../observability/client-report.ts";
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import { counted, Repeats } from "../observability/repeats.ts";
import type { EndpointEvent, FlowEvent } from "../transport/endpoint.ts";
import type { BackendEvent } from "./backend-watch.ts";
import type { ConnectorEvent } from "./connector-event.ts";

export const DENIAL_SUM_AFTER: Duration = seconds(60);

export class ConnectorReport {
  readonly #logger: Logger;
  readonly #client: ClientReport;
  /** By identity. */
  readonly #denials: Repeats;
  readonly #limits: Repeats;
  #refusedSessions = 0;
  #tcpFlows = 0;
  #tcpErrors = 0;

  constructor(logger: Logger, clock: Pick<Clock, "now">) {
    this.#logger = logger;
    this.#client = new ClientReport(logger, clock);
    this.#denials = new Repeats(clock, DENIAL_SUM_AFTER);
    this.#limits = new Repeats(clock);
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
      case "access":
        this.#noteAccess(event);
        return;
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
        this.#denials.forget(event.identity);
        this.#logger.info("tunnel up", { identity: event.identity });
        return;
      case "tunnel-refused":
        this.#client.noteRefusedTunnel(event.identity, event.reason);
        return;
      case "tunnel-violation":
        this.#client.noteTunnelViolation(event.identity, event.reason);
        return;
      case "revocations-left-out":
        this.#noteLeftOut(event.count);
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

  /** What follows an access that was allowed is news again. */
  #noteAccess({ type: _, ...fields }: AccessEvent): void {
    const { identity, service, decision, rule } = fields;
    if (decision === "allow") {
      this.#denials.forget(identity);
      this.#logger.audit(fields);
      return;
    }

    this.#refusedSessions++;
    const times = this.#denials.note(identity, `${rule} ${service}`);
    if (times !== undefined) this.#logger.audit({ ...fields, ...counted(times) });
  }

  #noteLeftOut(count: number): void {
    const reason = "revocations";
    if (this.#limits.note("limit", reason) === undefined) return;
    this.#logger.warn("limit reached", { reason, count });
  }

  #noteFlow(event: FlowEvent): void {
    const { kind, change, count } = event;
    if (kind === "tcp" && change === "opened") this.#tcpFlows += count;
    if (kind === "tcp" && change === "refused") this.#tcpErrors += count;
    this.#client.noteFlow(event);
  }
}

type AccessEvent = Extract<ConnectorEvent, { readonly type: "access" }>;
type RegistrationEvent = Extract<
  ConnectorEvent,
  { readonly type: "registered" | `registration-${string}` }
>;
