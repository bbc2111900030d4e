/** One process of the control world: a machine, its certificate, and what its data plane holds. */
import type { AgentInput, AgentOutput, AgentState } from "../../src/agent/agent-state.ts";
import type { Instant } from "../../src/base/time.ts";
import type { ConnectorState } from "../../src/connector/connector-state.ts";
import type { ConnectorOutput } from "../../src/connector/connector-values.ts";
import type { LeafInfo } from "../../src/policy/identity.ts";
import { CloseCode } from "../../src/protocol/close-codes.ts";
import { RelayState } from "../../src/relay/relay-state.ts";
import type { RelayInput, RelayOutput } from "../../src/relay/relay-values.ts";

export type Machine = RelayState | ConnectorState | AgentState;
export type Output = RelayOutput | ConnectorOutput | AgentOutput;
export type Closed = Extract<AgentInput, { readonly type: "closed" }>;

export interface Path {
  readonly pair: number;
  readonly leg: number;
  readonly sendId: string;
  readonly receiveId: string;
}

export class Process {
  readonly machine: Machine;
  readonly leaf: LeafInfo;
  readonly name: string;
  /** By local handle. */
  readonly links = new Map<number, { readonly peer: Process; readonly handle: number }>();
  /** By the id that this side issued. */
  readonly paths = new Map<string, Path>();
  /** Of a relay: the id it issued → the other side. */
  readonly channels = new Map<string, { readonly leg: number; readonly clientId: string }>();
  /** "connection service". */
  readonly granted = new Set<string>();
  readonly outputs: { readonly at: Instant; readonly output: Output }[] = [];
  alive = true;

  constructor(name: string, leaf: LeafInfo, machine: Machine) {
    this.name = name;
    this.leaf = leaf;
    this.machine = machine;
  }

  get events() {
    return this.outputs.flatMap(({ output }) => (output.type === "event" ? [output.event] : []));
  }
}

export function leafOf(role: string, name: string, grants: readonly string[]): LeafInfo {
  return {
    spkiSha256: Buffer.from(`${role} ${name}`).toString("hex").padEnd(64, "0").slice(0, 64),
    issuer: "30",
    serial: "01",
    uris: [`ztna://example/${role}/${name}`],
    dnsNames: role === "relay" ? [`${name}.example`] : grants,
    ipAddresses: [],
    clientAuth: role !== "relay",
    serverAuth: role !== "agent",
    notAfter: 2_000_000_000,
  };
}

/** Returns what the end of a connection is to the machine of a process. */
export function closedInput(
  process: Process,
  connection: number,
  event: Pick<Closed, "by" | "code" | "application" | "reason">,
): RelayInput | Closed {
  if (!(process.machine instanceof RelayState)) return { type: "closed", connection, ...event };

  // As `relay-mapping.ts` judges it.
  const goodbye =
    event.application &&
    [CloseCode.NO_ERROR, CloseCode.SHUTTING_DOWN].includes(event.code as never);
  return { type: "closed", connection, how: goodbye ? "goodbye" : "lost" };
}
