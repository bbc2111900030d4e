/**
 * Every metric of each role, by name. Dashboards of the predecessor find its names unchanged.
 *
 * A role hands its figures over under these names (`RoleFigures`); what the data plane counts is
 * added by `metrics.ts`. Counters never fall while a process lives.
 */

export interface MetricDefinition {
  readonly type: "counter" | "gauge";
  readonly help: string;
}

const COMMON = {
  ztna_legs: { type: "gauge", help: "Admitted QUIC connections between a relay and its peers." },
  ztna_sessions: { type: "gauge", help: "Sessions while policy allows them." },
  ztna_certificate_not_after_seconds: {
    type: "gauge",
    help: "When the own certificate expires, in seconds since 1970.",
  },
  ztna_handshakes_refused_total: {
    type: "counter",
    help: "Handshakes that ended in a refusal, on either side.",
  },
  ztna_protocol_violations_total: {
    type: "counter",
    help: "Connections closed because the peer broke the protocol.",
  },
  ztna_configuration_reloads_total: {
    type: "counter",
    help: "Reloads of certificates and configuration that took effect.",
  },
  ztna_log_lines_dropped_total: {
    type: "counter",
    help: "Log lines, audit lines among them, that could not be written.",
  },
} as const satisfies Record<string, MetricDefinition>;

export const RELAY_METRICS = {
  ...COMMON,
  ztna_active_connections: { type: "gauge", help: "Admitted agents and connectors." },
  ztna_relay_bytes_total: { type: "counter", help: "Octets forwarded over channels." },
  ztna_registrations_total: { type: "counter", help: "Services that connectors registered." },
  ztna_registration_rejections_total: {
    type: "counter",
    help: "Services that connectors asked for and may not provide.",
  },
  ztna_datagrams_relayed_total: { type: "counter", help: "Packets forwarded over channels." },
  ztna_signaling_sessions_total: { type: "counter", help: "Sessions opened." },
  ztna_retry_tokens_validated: { type: "counter", help: "Retry tokens that proved an address." },
  ztna_retry_token_failures: { type: "counter", help: "Retry tokens that proved nothing." },
  ztna_uptime_seconds: { type: "gauge", help: "Seconds since the relay started." },
  ztna_sessions_refused_total: { type: "counter", help: "Sessions refused, for any reason." },
  ztna_services: { type: "gauge", help: "Services that at least one connector provides." },
} as const satisfies Record<string, MetricDefinition>;

export const CONNECTOR_METRICS = {
  ...COMMON,
  ztna_connector_forwarded_packets_total: {
    type: "counter",
    help: "Tunnel packets sent, on all paths.",
  },
  ztna_connector_forwarded_bytes_total: {
    type: "counter",
    help: "Octets exchanged with backends.",
  },
  ztna_connector_tcp_sessions_total: { type: "counter", help: "TCP flows opened to backends." },
  ztna_connector_tcp_errors_total: { type: "counter", help: "TCP flows that backends refused." },
  ztna_connector_reconnections_total: { type: "counter", help: "Legs dialled after the first." },
  ztna_connector_uptime_seconds: { type: "gauge", help: "Seconds since the connector started." },
  ztna_connector_backends_healthy: { type: "gauge", help: "Services whose backend answers." },
  ztna_connector_sessions_refused_total: {
    type: "counter",
    help: "Offers and opens that this connector refused.",
  },
} as const satisfies Record<string, MetricDefinition>;

export const AGENT_METRICS = {
  ...COMMON,
  ztna_agent_services: { type: "gauge", help: "Services that this identity may use." },
  ztna_agent_sessions_opened_total: { type: "counter", help: "Sessions that a relay granted." },
  ztna_agent_sessions_refused_total: { type: "counter", help: "Sessions that were refused." },
  ztna_agent_reconnections_total: { type: "counter", help: "Legs dialled after the first." },
  ztna_agent_uptime_seconds: { type: "gauge", help: "Seconds since the agent started." },
  ztna_agent_packets_via_direct: { type: "counter", help: "Tunnel packets sent on direct paths." },
  ztna_agent_packets_via_relay: { type: "counter", help: "Tunnel packets sent on relayed paths." },
} as const satisfies Record<string, MetricDefinition>;

export const METRICS_BY_ROLE = {
  relay: RELAY_METRICS,
  connector: CONNECTOR_METRICS,
  agent: AGENT_METRICS,
} as const;

export type MeasuredRole = keyof typeof METRICS_BY_ROLE;

/** What a role counts itself. Names that it leaves out are exported as 0. */
export type RoleFigures<R extends MeasuredRole> = Readonly<
  Partial<Record<keyof (typeof METRICS_BY_ROLE)[R], number>>
>;

/**
 * Counters of the data plane that have a name of the predecessor's; several under one name are
 * added up. Each of them, like all others, is also exported as `ztna_data_plane_events_total`.
 */
export const FROM_DATA_PLANE: Readonly<Record<MeasuredRole, Readonly<Record<string, string>>>> = {
  relay: {
    channel_bytes_forwarded: "ztna_relay_bytes_total",
    channel_packets_forwarded: "ztna_datagrams_relayed_total",
    retry_tokens_validated: "ztna_retry_tokens_validated",
    retry_tokens_refused: "ztna_retry_token_failures",
  },
  connector: {
    packets_via_direct: "ztna_connector_forwarded_packets_total",
    packets_via_relay: "ztna_connector_forwarded_packets_total",
  },
  agent: {
    packets_via_direct: "ztna_agent_packets_via_direct",
    packets_via_relay: "ztna_agent_packets_via_relay",
  },
};
