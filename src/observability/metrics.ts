/**
 * Turns snapshots into the Prometheus text format.
 *
 * Nothing is counted here: each scrape asks for a snapshot of the role and of its data plane and
 * exports those figures, so a counter has one owner. Labels never carry what a stranger chooses:
 * service names come from the role's own tables, and are bounded like those tables.
 */
import { Counter, Gauge, Registry } from "prom-client";
import {
  FROM_DATA_PLANE,
  METRICS_BY_ROLE,
  type MeasuredRole,
  type MetricDefinition,
  type RoleFigures,
} from "./metric-definitions.ts";

/** The part of the data plane's snapshot that is exported. */
export interface EndpointFigures {
  readonly counters: Readonly<Record<string, number>>;
  readonly services: readonly {
    readonly service: string;
    readonly bytesUp: number;
    readonly bytesDown: number;
    readonly flowsOpened: number;
    readonly flowsRefused: number;
    readonly flows: number;
  }[];
  readonly connections: readonly {
    readonly kind: "leg" | "tunnel";
    readonly paths: readonly {
      readonly path: { readonly kind: "relayed" | "direct" };
      readonly selected: boolean;
    }[];
  }[];
  readonly channels: number;
  readonly connectionsTotal: number;
  readonly flows: number;
}

export interface MetricsSource<R extends MeasuredRole> {
  readonly role: RoleFigures<R>;
  /** Absent while the data plane does not answer; its figures then keep their last value. */
  readonly endpoint?: EndpointFigures | undefined;
}

export interface MetricsOptions<R extends MeasuredRole> {
  readonly role: R;
  readonly version: string;
  readonly read: () => Promise<MetricsSource<R>>;
}

/** Returns a function that takes a snapshot and writes it as text. */
export function createMetrics<R extends MeasuredRole>(
  options: MetricsOptions<R>,
): () => Promise<string> {
  const exporter = new Exporter(options.role, options.version);
  return async () => {
    const source = await options.read();
    exporter.exportRole(source.role);
    if (source.endpoint !== undefined) exporter.exportEndpoint(source.endpoint);
    exporter.exportProcess();
    return exporter.text();
  };
}

type Labels = Readonly<Record<string, string>>;

class Exporter {
  readonly #registry = new Registry();
  readonly #metrics = new Map<string, Counter | Gauge>();
  readonly #role: MeasuredRole;

  constructor(role: MeasuredRole, version: string) {
    this.#role = role;
    const own: Readonly<Record<string, MetricDefinition>> = METRICS_BY_ROLE[role];
    for (const [name, definition] of Object.entries(own)) {
      this.#define(name, definition, []);
      this.#set(name, 0);
    }
    for (const [name, { labels, ...definition }] of Object.entries(SHARED)) {
      this.#define(name, definition, labels);
    }
    this.#set("ztna_build_info", 1, { role, version });
  }

  exportRole(figures: RoleFigures<MeasuredRole>): void {
    for (const [name, value] of Object.entries(figures)) this.#set(name, value);
  }

  exportEndpoint(endpoint: EndpointFigures): void {
    const nameOf = FROM_DATA_PLANE[this.#role];
    const named = new Map<string, number>();
    for (const [event, value] of Object.entries(endpoint.counters)) {
      this.#set("ztna_data_plane_events_total", value, { event });
      const name = nameOf[event];
      if (name !== undefined) named.set(name, (named.get(name) ?? 0) + value);
    }
    for (const [name, value] of named) this.#set(name, value);
    this.#set("ztna_channels", endpoint.channels);
    this.#set("ztna_connections", endpoint.connectionsTotal);
    this.#set("ztna_flows", endpoint.flows);
    this.#exportServices(endpoint.services);
    this.#exportSelectedPaths(endpoint.connections);
  }

  exportProcess(): void {
    const { user, system } = process.cpuUsage();
    this.#set("process_resident_memory_bytes", process.memoryUsage.rss());
    this.#set("process_cpu_seconds_total", (user + system) / 1e6);
    this.#set("process_start_time_seconds", (Date.now() - process.uptime() * 1000) / 1000);
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #exportServices(services: EndpointFigures["services"]): void {
    for (const name of SERVICE_METRICS) this.#metrics.get(name)?.reset();
    for (const { service, ...figures } of services) {
      this.#set("ztna_service_bytes_total", figures.bytesUp, { service, direction: "up" });
      this.#set("ztna_service_bytes_total", figures.bytesDown, { service, direction: "down" });
      this.#set("ztna_service_flows_total", figures.flowsOpened, { service, result: "opened" });
      this.#set("ztna_service_flows_total", figures.flowsRefused, { service, result: "refused" });
      this.#set("ztna_service_flows", figures.flows, { service });
    }
  }

  #exportSelectedPaths(connections: EndpointFigures["connections"]): void {
    const tunnels = { relayed: 0, direct: 0 };
    for (const { paths } of connections) {
      for (const { path, selected } of paths) if (selected) tunnels[path.kind]++;
    }
    this.#set("ztna_tunnels", tunnels.relayed, { path: "relayed" });
    this.#set("ztna_tunnels", tunnels.direct, { path: "direct" });
  }

  #define(name: string, definition: MetricDefinition, labelNames: readonly string[]): void {
    const configuration = {
      name,
      help: definition.help,
      labelNames: [...labelNames],
      registers: [this.#registry],
    };
    this.#metrics.set(
      name,
      definition.type === "counter" ? new Counter(configuration) : new Gauge(configuration),
    );
  }

  #set(name: string, value: number, labels: Labels = {}): void {
    const metric = this.#metrics.get(name);
    if (metric instanceof Gauge) metric.set(labels, value);
    if (metric instanceof Counter) {
      metric.remove(labels);
      metric.inc(labels, value);
    }
  }
}

const SHARED: Readonly<Record<string, MetricDefinition & { labels: readonly string[] }>> = {
  ztna_build_info: {
    type: "gauge",
    help: "Version that runs, always 1.",
    labels: ["role", "version"],
  },
  ztna_channels: { type: "gauge", help: "Channels a relay forwards.", labels: [] },
  ztna_connections: { type: "gauge", help: "QUIC connections, legs and tunnels.", labels: [] },
  ztna_flows: { type: "gauge", help: "Flows in all tunnels.", labels: [] },
  ztna_tunnels: {
    type: "gauge",
    help: "Tunnels by the kind of the selected path.",
    labels: ["path"],
  },
  ztna_data_plane_events_total: {
    type: "counter",
    help: "What the data plane counted, by the name of its counter.",
    labels: ["event"],
  },
  ztna_service_bytes_total: {
    type: "counter",
    help: "Octets of user data by service; up is from the agent.",
    labels: ["service", "direction"],
  },
  ztna_service_flows_total: {
    type: "counter",
    help: "Flows by service and result.",
    labels: ["service", "result"],
  },
  ztna_service_flows: { type: "gauge", help: "Flows that are open.", labels: ["service"] },
  process_resident_memory_bytes: { type: "gauge", help: "Resident memory.", labels: [] },
  process_cpu_seconds_total: { type: "counter", help: "Processor time used.", labels: [] },
  process_start_time_seconds: {
    type: "gauge",
    help: "Start of the process, in seconds since 1970.",
    labels: [],
  },
};

const SERVICE_METRICS = [
  "ztna_service_bytes_total",
  "ztna_service_flows_total",
  "ztna_service_flows",
];
