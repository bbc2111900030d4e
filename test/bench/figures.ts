/** What is measured, and what the same figure was without a tunnel when the marks were set. */

/** Which value of a result counts. */
export type Unit =
  | "Mbit/s"
  | "packets/s"
  | "requests/s"
  | "connections/s"
  | "µs"
  | "ms"
  | "packets/CPU s";

export interface Figure {
  readonly name: string;
  readonly unit: Unit;
  /** Test of `ztna-load` and its options. */
  readonly test: string;
  readonly options: readonly string[];
  /** The bad link of `scene.ts`. */
  readonly distant?: true;
  /** The agent is started for each run, and has no session and no tunnel. */
  readonly fresh?: true;
  /** How long one run takes; a search for a rate makes several. */
  readonly durationMs: number;
  /** Field of its JSON. */
  readonly field: string;
  /** Median without a tunnel on the machine of the marks; a run below half of it is void. */
  readonly anchor?: number;
  readonly mark?: Mark;
}

export type Mark =
  /** Either suffices, where there are both. */
  | { readonly type: "at-least"; readonly value?: number; readonly ratio?: number }
  /** Over the figure without a tunnel. */
  | { readonly type: "at-most-more"; readonly value: number };

const BULK_MS = 3000;
/** One step of the search. */
const STEP_MS = 1000;
/** Congestion control has to find its rate first. */
const DISTANT_MS = 10_000;

export const FIGURES: readonly Figure[] = [
  {
    name: "TCP, 1 connection",
    unit: "Mbit/s",
    test: "tcp-send",
    options: ["connections=1"],
    durationMs: BULK_MS,
    field: "mbitPerSecond",
    anchor: 35_000,
    mark: { type: "at-least", value: 2500, ratio: 0.07 },
  },
  {
    name: "TCP, 1 connection, towards the agent",
    unit: "Mbit/s",
    test: "tcp-receive",
    options: ["connections=1"],
    durationMs: BULK_MS,
    field: "mbitPerSecond",
    anchor: 31_000,
    mark: { type: "at-least", value: 2500, ratio: 0.07 },
  },
  {
    name: "TCP, 8 connections",
    unit: "Mbit/s",
    test: "tcp-send",
    options: ["connections=8"],
    durationMs: BULK_MS,
    field: "mbitPerSecond",
    anchor: 22_000,
  },
  {
    name: "TCP, 8 connections, towards the agent",
    unit: "Mbit/s",
    test: "tcp-receive",
    options: ["connections=8"],
    durationMs: BULK_MS,
    field: "mbitPerSecond",
  },
  {
    name: "UDP 64 octets, below 1 % loss",
    unit: "packets/s",
    test: "udp-rate",
    options: ["size=64"],
    durationMs: STEP_MS,
    field: "packetsPerSecond",
    anchor: 322_000,
  },
  {
    name: "UDP 1200 octets, below 1 % loss",
    unit: "packets/s",
    test: "udp-rate",
    options: ["size=1200"],
    durationMs: STEP_MS,
    field: "packetsPerSecond",
    anchor: 264_000,
    mark: { type: "at-least", value: 110_000, ratio: 0.45 },
  },
  {
    name: "UDP round trip, p50",
    unit: "µs",
    test: "udp-rtt",
    options: ["size=64"],
    durationMs: BULK_MS,
    field: "p50Us",
    mark: { type: "at-most-more", value: 150 },
  },
  {
    name: "UDP round trip, p99",
    unit: "µs",
    test: "udp-rtt",
    options: ["size=64"],
    durationMs: BULK_MS,
    field: "p99Us",
  },
  {
    name: "TCP round trip, p50",
    unit: "µs",
    test: "tcp-rtt",
    options: [],
    durationMs: BULK_MS,
    field: "p50Us",
    mark: { type: "at-most-more", value: 200 },
  },
  {
    name: "TCP round trip, p99",
    unit: "µs",
    test: "tcp-rtt",
    options: [],
    durationMs: BULK_MS,
    field: "p99Us",
  },
  {
    name: "HTTP, 16 connections",
    unit: "requests/s",
    test: "http",
    options: ["connections=16"],
    durationMs: BULK_MS,
    field: "perSecond",
    anchor: 135_000,
    mark: { type: "at-least", value: 30_000, ratio: 0.22 },
  },
  {
    name: "new TCP connections",
    unit: "connections/s",
    test: "tcp-connect",
    options: ["connections=16"],
    durationMs: BULK_MS,
    field: "perSecond",
    anchor: 50_000,
    mark: { type: "at-least", value: 8000, ratio: 0.16 },
  },
  {
    name: "new TCP connections, one octet each way",
    unit: "connections/s",
    test: "tcp-connect-and-ask",
    options: ["connections=16"],
    durationMs: BULK_MS,
    field: "perSecond",
  },
  {
    name: "first octet, no session yet",
    unit: "ms",
    test: "tcp-first-octet",
    options: [],
    fresh: true,
    durationMs: 0,
    field: "ms",
  },
  {
    name: "TCP, 40 ms and 1 % loss",
    unit: "Mbit/s",
    test: "tcp-send",
    options: ["connections=1", "cubic=1"],
    distant: true,
    durationMs: DISTANT_MS,
    field: "mbitPerSecond",
    mark: { type: "at-least", ratio: 5 },
  },
  {
    name: "TCP, 40 ms and 1 % loss, towards the agent",
    unit: "Mbit/s",
    test: "tcp-receive",
    options: ["connections=1", "cubic=1"],
    distant: true,
    durationMs: DISTANT_MS,
    field: "mbitPerSecond",
    mark: { type: "at-least", ratio: 5 },
  },
];
