import { describe, expect, test } from "bun:test";
import {
  FROM_DATA_PLANE,
  METRICS_BY_ROLE,
  type MeasuredRole,
} from "../../../src/observability/metric-definitions.ts";
import { createMetrics, type EndpointFigures } from "../../../src/observability/metrics.ts";

describe("metrics", () => {
  test.each([
    { name: "relay", names: namesOfPredecessorRelay() },
    { name: "connector", names: namesOfPredecessorConnector() },
  ] as const)(
    "a $name exports each name of the predecessor before anything happened",
    async ({ name, names }) => {
      const text = await createMetrics({
        role: name,
        version: "1",
        read: async () => ({ role: {} }),
      })();

      expect(names.filter((it) => !text.includes(`\n${it} 0\n`))).toEqual([]);
    },
  );

  test("counters of the data plane appear as labelled events, some under their own name too", async () => {
    const endpoint = {
      ...NOTHING,
      counters: { channel_bytes_forwarded: 1500, channel_packets_forwarded: 3, resets_sent: 2 },
    };

    const text = await scrape("relay", endpoint);

    expect(text).toContain("\nztna_relay_bytes_total 1500\n");
    expect(text).toContain("\nztna_datagrams_relayed_total 3\n");
    expect(text).toContain('\nztna_data_plane_events_total{event="resets_sent"} 2\n');
  });

  test("two counters under one name are added up", async () => {
    const counters = { packets_via_direct: 5, packets_via_relay: 7 };

    const text = await scrape("connector", { ...NOTHING, counters });

    expect(text).toContain("\nztna_connector_forwarded_packets_total 12\n");
  });

  test("every name that a counter leads to is a metric of its role", () => {
    const roles = Object.keys(METRICS_BY_ROLE) as MeasuredRole[];

    const unknown = roles.flatMap((role) =>
      Object.values(FROM_DATA_PLANE[role]).filter((name) => !(name in METRICS_BY_ROLE[role])),
    );
    expect(unknown).toEqual([]);
  });

  test("every counter that has a name is one that the data plane counts", async () => {
    const path = "native/crates/ztna-dataplane/src/endpoint/snapshot.rs";
    const counted = await Bun.file(path).text();

    const named = Object.values(FROM_DATA_PLANE).flatMap((it) => Object.keys(it));
    expect(named.filter((name) => !counted.includes(`"${name}"`))).toEqual([]);
  });

  test("a second scrape shows the owner's figure, not a sum", async () => {
    let bytes = 10;
    const metrics = createMetrics({
      role: "relay",
      version: "1",
      read: async () => ({
        role: { ztna_sessions: bytes },
        endpoint: { ...NOTHING, counters: { channel_bytes_forwarded: bytes } },
      }),
    });

    await metrics();
    bytes = 25;
    const text = await metrics();

    expect(text).toContain("\nztna_relay_bytes_total 25\n");
    expect(text).toContain("\nztna_sessions 25\n");
  });

  test("a service that is gone leaves no series behind", async () => {
    let services: EndpointFigures["services"] = [
      { service: "echo", bytesUp: 1, bytesDown: 2, flowsOpened: 3, flowsRefused: 4, flows: 5 },
    ];
    const metrics = createMetrics({
      role: "agent",
      version: "1",
      read: async () => ({ role: {}, endpoint: { ...NOTHING, services } }),
    });
    expect(await metrics()).toContain(
      'ztna_service_bytes_total{service="echo",direction="up"} 1\n',
    );

    services = [];

    expect(await metrics()).not.toContain("echo");
  });

  test("tunnels are counted by the path they send on", async () => {
    const relayed = { path: { kind: "relayed" }, selected: true } as const;
    const direct = { path: { kind: "direct" }, selected: false } as const;
    const connections = [
      { kind: "tunnel", paths: [relayed, direct] },
      { kind: "leg", paths: [] },
    ] as const;

    const text = await scrape("agent", { ...NOTHING, connections });

    expect(text).toContain('ztna_tunnels{path="relayed"} 1\n');
    expect(text).toContain('ztna_tunnels{path="direct"} 0\n');
  });

  test("every metric says what it is", () => {
    const helps = Object.values(METRICS_BY_ROLE).flatMap((it) => Object.values(it));

    expect(helps.filter(({ help }) => !/^[A-Z].*\.$/.test(help))).toEqual([]);
  });
});

const NOTHING: EndpointFigures = {
  counters: {},
  services: [],
  connections: [],
  channels: 0,
  connectionsTotal: 0,
  flows: 0,
};

function scrape(role: MeasuredRole, endpoint: EndpointFigures): Promise<string> {
  return createMetrics({ role, version: "1", read: async () => ({ role: {}, endpoint }) })();
}

function namesOfPredecessorRelay(): string[] {
  return [
    "ztna_active_connections",
    "ztna_relay_bytes_total",
    "ztna_registrations_total",
    "ztna_registration_rejections_total",
    "ztna_datagrams_relayed_total",
    "ztna_signaling_sessions_total",
    "ztna_retry_tokens_validated",
    "ztna_retry_token_failures",
    "ztna_uptime_seconds",
  ];
}

function namesOfPredecessorConnector(): string[] {
  return [
    "ztna_connector_forwarded_packets_total",
    "ztna_connector_forwarded_bytes_total",
    "ztna_connector_tcp_sessions_total",
    "ztna_connector_tcp_errors_total",
    "ztna_connector_reconnections_total",
    "ztna_connector_uptime_seconds",
  ];
}
