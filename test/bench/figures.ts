/** What is measured, and what the same figure was without a tunnel when the marks were set. */

/** Which value of a result counts. */
export type Unit = "Mbit/s" | "packets/s" | "requests/s" | "connections/s" | "µs";

export interface Figure {
  readonly name: string;
  readonly unit: Unit;
  /** Test of `ztna-load` and its options. */
  readonly test: string;
  readonly options: readonly string[];
  /** Field of its JSON. */
  readonly field: string;
  /** Median without a tunnel on the machine of the marks; a run below half of it is void. */
  readonly anchor?: number;
  /** Either suffices. */
  readonly mark?: Mark;
}

export type Mark =
  | { readonly type: "at-least"; readonly value: number; readonly ratio: number }
  /** Over the figure without a tunnel. */
  | { readonly type: "at-most-more"; readonly value: number };

export const FIGURES: readonly Figure[] = [
  {
    name: "TCP, 1 connection",
    unit: "Mbit/s",
    test: "tcp-send",
    options: ["connections=1"],
    field: "mbitPerSecond",
    anchor: 35_000,
    mark: { type: "at-least", value: 2500, ratio: 0.07 },
  },
  {
    name: "TCP, 1 connection, towards the agent",
    unit: "Mbit/s",
    test: "tcp-receive",
    options: ["connections=1"],
    field: "mbitPerSecond",
    anchor: 31_000,
    mark: { type: "at-least", value: 2500, ratio: 0.07 },
  },
  {
    name: "TCP, 8 connections",
    unit: "Mbit/s",
    test: "tcp-send",
    options: ["connections=8"],
    field: "mbitPerSecond",
    anchor: 22_000,
  },
  {
    name: "TCP, 8 connections, towards the agent",
    unit: "Mbit/s",
    test: "tcp-receive",
    options: ["connections=8"],
    field: "mbitPerSecond",
  },
  {
    name: "UDP 64 octets, below 1 % loss",
    unit: "packets/s",
    test: "udp-rate",
    options: ["size=64"],
    field: "packetsPerSecond",
    anchor: 322_000,
  },
  {
    name: "UDP 1200 octets, below 1 % loss",
    unit: "packets/s",
    test: "udp-rate",
    options: ["size=1200"],
    field: "packetsPerSecond",
    anchor: 264_000,
    mark: { type: "at-least", value: 110_000, ratio: 0.45 },
  },
  {
    name: "UDP round trip, p50",
    unit: "µs",
    test: "udp-rtt",
    options: ["size=64"],
    field: "p50Us",
    mark: { type: "at-most-more", value: 150 },
  },
  {
    name: "UDP round trip, p99",
    unit: "µs",
    test: "udp-rtt",
    options: ["size=64"],
    field: "p99Us",
  },
  {
    name: "TCP round trip, p50",
    unit: "µs",
    test: "tcp-rtt",
    options: [],
    field: "p50Us",
    mark: { type: "at-most-more", value: 200 },
  },
  { name: "TCP round trip, p99", unit: "µs", test: "tcp-rtt", options: [], field: "p99Us" },
  {
    name: "HTTP, 16 connections",
    unit: "requests/s",
    test: "http",
    options: ["connections=16"],
    field: "perSecond",
    anchor: 135_000,
    mark: { type: "at-least", value: 30_000, ratio: 0.22 },
  },
  {
    name: "new TCP connections",
    unit: "connections/s",
    test: "tcp-connect",
    options: ["connections=8"],
    field: "perSecond",
    anchor: 50_000,
    mark: { type: "at-least", value: 8000, ratio: 0.16 },
  },
];
