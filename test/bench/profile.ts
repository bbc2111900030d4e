/**
 * Where a packet's time goes: samples of all roles under load, by stage of the work.
 *
 * The profiler samples by the processor's time, so samples divided by their rate are seconds of work,
 * and those divided by what was carried are the cost of one packet.
 */
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { table } from "../../scripts/lib/table.ts";
import { must, run, TestProcess } from "../support/process.ts";
import { withForwarding } from "./relay-figures.ts";
import type { LoadResult, Scene } from "./scene.ts";
import { type Frame, STAGES, type Stage, stageOf } from "./stages.ts";
import { readSymbols, type Symbols } from "./symbols.ts";

export interface ProfiledLoad {
  readonly name: string;
  /** What the cost is told for, and how many of it were carried. */
  readonly unit: string;
  readonly carried: (result: LoadResult) => number;
}

export interface ProfiledTest extends ProfiledLoad {
  readonly test: string;
  readonly options: readonly string[];
}

const DURATION_MS = 5000;
const SAMPLES_PER_SECOND = 997;
const FUNCTIONS_SHOWN = 12;

const ofBytes = { unit: "KiB", carried: ({ bytes = 0 }: LoadResult) => bytes / 1024 };
const ofPackets = { unit: "packet", carried: ({ received = 0 }: LoadResult) => received };

export const PROFILED_TESTS: readonly ProfiledTest[] = [
  { name: "TCP, 1 connection", test: "tcp-send", options: [], ...ofBytes },
  { name: "TCP, 1 connection, towards the agent", test: "tcp-receive", options: [], ...ofBytes },
  {
    name: "UDP 1200 octets, 60,000 packets/s",
    test: "udp-rate",
    options: ["size=1200", "rate=60000"],
    ...ofPackets,
  },
  {
    name: "new TCP connections, one octet each way",
    test: "tcp-connect-and-ask",
    options: ["connections=16"],
    unit: "connection",
    carried: ({ count = 0 }) => count,
  },
  {
    name: "HTTP, 16 connections",
    test: "http",
    options: ["connections=16"],
    unit: "request",
    carried: ({ count = 0 }) => count,
  },
];

/** Why there can be no profile here, or undefined. */
export async function profilerUnavailable(): Promise<string | undefined> {
  for (const tool of ["perf", "nm", "readelf"]) {
    if (Bun.which(tool) === null) return `needs the command ${tool}`;
  }
  const { code, stderr } = await run(["perf", "record", ...EVENT, "-o", "/dev/null", "true"]);
  return code === 0 ? undefined : `needs perf: ${stderr.trim().split("\n")[0]}`;
}

/** Profiles all roles of a scene. @param withSymbols the data plane before its names were taken out. */
export function profileTest(
  scene: Scene,
  load: ProfiledTest,
  withSymbols: string,
): Promise<string[]> {
  const options = [...load.options, `ms=${DURATION_MS}`];
  const run = () => scene.measure("tunnel", load.test, options);
  const roles = scene.roles.map((it) => ({ name: it.spec.name, pid: it.process.pid }));
  return profile(load, roles, run, withSymbols);
}

/** Profiles a relay that does nothing else. */
export function profileForwarding(train: number, withSymbols: string): Promise<string[]> {
  const load: ProfiledLoad = {
    name: train > 1 ? `relay, in trains of ${train}` : "relay, one by one",
    unit: "packet",
    carried: ({ packets = 0 }) => packets,
  };
  return withForwarding((it) =>
    profile(load, [it.relay], () => it.load(it.relay, train, DURATION_MS), withSymbols),
  );
}

async function profile(
  load: ProfiledLoad,
  roles: readonly ProfiledRole[],
  run: () => Promise<LoadResult>,
  withSymbols: string,
): Promise<string[]> {
  const symbols = await readSymbols(withSymbols);
  const file = join(tmpdir(), `ztna-profile-${process.pid}.data`);
  const pids = roles.map((it) => it.pid).join(",");
  const recorder = new TestProcess(
    ["perf", "record", ...EVENT, "--call-graph", "fp", "-p", pids, "-o", file],
    { name: "perf" },
  );
  try {
    await Bun.sleep(ATTACH_MS);
    const result = await run();
    await recorder.stop("SIGINT");
    const script = await must(["perf", "script", "-i", file, "-F", "pid,ip,sym,dso"]);
    return layOut(load, load.carried(result), roles, parseSamples(script, symbols));
  } finally {
    await recorder.stop("SIGKILL");
    rmSync(file, { force: true });
  }
}

interface Sample {
  readonly pid: number;
  readonly frames: readonly Frame[];
}

/** Reads what `perf script -F pid,ip,sym,dso` prints: a sample a paragraph. */
export function parseSamples(script: string, symbols: Symbols): Sample[] {
  return script.split(/\n\n+/).flatMap((paragraph) => {
    const [head = "", ...lines] = paragraph.trim().split("\n");
    const pid = Number.parseInt(head, 10);
    if (Number.isNaN(pid)) return [];
    return [{ pid, frames: lines.flatMap((line) => parseFrame(line, symbols)) }];
  });
}

function parseFrame(line: string, symbols: Symbols): Frame[] {
  const [, place = "", symbol = "", module = ""] = FRAME.exec(line.trim()) ?? [];
  if (module === "") return [];
  const named = module.includes(ADDON) ? symbols.at(Number.parseInt(place, 16)) : undefined;
  return [{ symbol: named ?? symbol, module }];
}

interface ProfiledRole {
  readonly name: string;
  readonly pid: number;
}

function layOut(
  load: ProfiledLoad,
  carried: number,
  roles: readonly ProfiledRole[],
  samples: readonly Sample[],
): string[] {
  const byRole = roles.map(({ pid }) => samples.filter((it) => it.pid === pid));
  const cost = (count: number) => ((count / SAMPLES_PER_SECOND / carried) * 1e9).toFixed(0);
  const countsOf = byRole.map((own) => Map.groupBy(own, (it) => stageOf(it.frames)));
  const count = (role: number, stage: Stage) => countsOf[role]?.get(stage)?.length ?? 0;
  const stages = STAGES.filter((stage) => roles.some((_, at) => count(at, stage) > 0));
  const rows = [
    ...stages.map((stage) => [stage, ...roles.map((_, at) => cost(count(at, stage)))]),
    ["all", ...byRole.map((own) => cost(own.length))],
  ];
  const heading = [`${load.name}: ns a ${load.unit}`, ...roles.map((it) => it.name)];
  return [...table([heading, ...rows]), "", ...hottest(roles, byRole, cost)];
}

function hottest(
  roles: readonly ProfiledRole[],
  byRole: readonly (readonly Sample[])[],
  cost: (count: number) => string,
): string[] {
  return roles.flatMap(({ name }, at) => {
    const byFunction = Map.groupBy(byRole[at] ?? [], ({ frames: [leaf] }) =>
      leaf === undefined ? "?" : leaf.symbol,
    );
    const top = [...byFunction]
      .sort(([, a], [, b]) => b.length - a.length)
      .slice(0, FUNCTIONS_SHOWN)
      .map(([symbol, own]) => `  ${cost(own.length).padStart(6)}  ${symbol.slice(0, 100)}`);
    return [`${name}, by function:`, ...top];
  });
}

/** Software clock: there is none else on virtual machines. */
const EVENT = ["-e", "cpu-clock", "-F", String(SAMPLES_PER_SECOND)];
/** Name of the addon's file in memory. */
const ADDON = "memfd:ztna.node";
const FRAME = /^([0-9a-f]+) (.*) \(([^()]*(?:\(deleted\))?)\)$/;
/** Until perf has attached to all threads. */
const ATTACH_MS = 1000;
