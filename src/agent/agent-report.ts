/** What the agent tells, as log lines and counters. */
import type { Clock } from "../base/time.ts";
import { ClientReport } from "../observability/client-report.ts";
import type { Logger } from "../observability/logger.ts";
import type { RoleFigures } from "../observability/metric-definitions.ts";
import type { EndpointEvent, PathEvent } from "../transport/endpoint.ts";
import type { AgentEvent } from "./agent-event.ts";

export class AgentReport {
  readonly #logger: Logger;
  readonly #client: ClientReport;
  #sessionsOpened = 0;
  #sessionsRefused = 0;

  constructor(logger: Logger, clock: Pick<Clock, "now">) {
    this.#logger = logger;
    this.#client = new ClientReport(logger, clock);
  }

  get counters() {
    return {
      ...this.#client.counters,
      ztna_agent_reconnections_total: this.#client.reconnections,
      ztna_agent_sessions_opened_total: this.#sessionsOpened,
      ztna_agent_sessions_refused_total: this.#sessionsRefused,
    } satisfies RoleFigures<"agent">;
  }

  noteReload(): void {
    this.#client.noteReload();
  }

  /** Notes what the data plane tells people. */
  noteEndpoint(event: EndpointEvent): void {
    switch (event.type) {
      case "handshake-refused":
        this.#client.noteRefusedHandshake(event);
        return;
      case "path":
        this.#notePath(event);
        return;
      case "flow":
        this.#client.noteFlow(event);
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
      case "tunnel-violation":
        this.#client.noteTunnelViolation(event.peer, event.reason);
        return;
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
        this.#client.noteLeg(event);
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
}
