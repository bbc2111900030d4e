/**
 * Measures the product beside the same machine without it.
 *
 *   npm run bench                          everything, 5 runs of each
 *   npm run bench -- --runs 2 --only TCP   figures whose name contains the text
 *   npm run bench -- --profile             where a packet's time goes, in place of the figures
 *
 * Prints tables; writes `dist/bench.json` with every single run. Needs root, for namespaces and TUN.
 * `docs/performance.md` says what the columns mean.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import {
  type Comparison,
  compare,
  counts,
  type Pair,
  takePairs,
} from "../test/bench/comparison.ts";
import { FIGURES, type Figure, type Mark } from "../test/bench/figures.ts";
import { type Measurement, measured } from "../test/bench/measurement.ts";
import { usageOf } from "../test/bench/process-usage.ts";
import {
  PROFILED_TESTS,
  profileForwarding,
  profilerUnavailable,
  profileTest,
} from "../test/bench/profile.ts";
import {
  type Forwarding,
  measureForwarding,
  measureIdleLegs,
  TRAINS,
} from "../test/bench/relay-figures.ts";
import { comparisonTable, measurementTable } from "../test/bench/report.ts";
import { buildScene, DISTANT, LOCAL, type LoadResult, type Scene } from "../test/bench/scene.ts";
import { pairOfRuns, withStolenTime } from "../test/bench/stolen-time.ts";
import { namespacesUnavailable } from "../test/support/netns.ts";
import { must } from "../test/support/process.ts";
import { ADDON_WITH_SYMBOLS, build } from "./build.ts";
import { print, say, step } from "./lib/step.ts";

const BULK_MS = 3000;
/** A pair for each length of train, while the channels last. */
const FORWARDING_MS = 2000;
/** By length of train. */
const FORWARDING_MARKS: ReadonlyMap<number, Mark> = new Map([
  [16, { type: "at-least", value: 1_500_000 }],
  [1, { type: "at-least", value: 250_000 }],
]);
const START_UPS = 15;

process.chdir(resolve(import.meta.dir, ".."));
process.exit(await main());

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      runs: { type: "string", default: "5" },
      only: { type: "string", default: "" },
      profile: { type: "boolean", default: false },
    },
  });
  const unavailable = await namespacesUnavailable();
  if (unavailable !== undefined) {
    say(`error: the benchmarks cannot run: it ${unavailable}`);
    return 3;
  }

  await build();
  await step(
    "building the load generator",
    ["cargo", "build", "--release", "--locked", "--package", "ztna-load"],
    { cwd: "native" },
  );
  if (values.profile) return await printProfiles(values.only);

  const selection: Selection = { runs: Number(values.runs), only: values.only };
  const pairs = await compareAll(selection);
  const { measurements, ...parts } = await measureParts(selection);
  const comparisons = [...pairs, ...parts.comparisons];
  for (const line of comparisonTable(comparisons)) print(line);
  print("");
  for (const line of measurementTable(measurements)) print(line);

  mkdirSync("dist", { recursive: true });
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, platform: process.platform };
  const json = { version: 2, machine, comparisons, measurements };
  writeFileSync("dist/bench.json", `${JSON.stringify(json, undefined, 2)}\n`);
  say("every run is in dist/bench.json");
  return 0;
}

interface Selection {
  readonly runs: number;
  readonly only: string;
}

async function compareAll({ runs, only }: Selection): Promise<Comparison[]> {
  const figures = FIGURES.filter((it) => it.name.includes(only));
  const comparisons: Comparison[] = [];
  for (const layout of [LOCAL, DISTANT]) {
    const here = figures.filter((it) => (it.distant === true) === (layout === DISTANT));
    if (here.length === 0) continue;
    const scene = await buildScene(layout);
    try {
      comparisons.push(...(await compareIn(scene, here, runs)));
    } finally {
      await scene.remove();
    }
  }
  return comparisons;
}

/** Figures of one test come from the same runs. */
async function compareIn(
  scene: Scene,
  figures: readonly Figure[],
  runs: number,
): Promise<Comparison[]> {
  const byTest = Map.groupBy(figures, (it) => [it.test, ...it.options].join(" "));
  const comparisons: Comparison[] = [];
  for (const group of byTest.values()) {
    const [first] = group;
    if (first === undefined) continue;
    say(`  ${group.map((it) => it.name).join("; ")} ...`);
    const results = await takePairs(
      runs,
      () => runPair(scene, first),
      (it) => group.every((figure) => counts(figure, pairOf(figure, it))),
    );
    for (const figure of group) {
      comparisons.push(
        compare(
          figure,
          results.map((it) => pairOf(figure, it)),
        ),
      );
    }
  }
  return comparisons;
}

async function runPair(scene: Scene, figure: Figure): Promise<Pair<LoadResult>> {
  const options = [...figure.options, `ms=${figure.durationMs}`];
  const run = (over: "bare" | "tunnel") =>
    withStolenTime(() => scene.measure(over, figure.test, options));
  const bare = await run("bare");
  if (figure.fresh) await scene.restartAgent();
  return pairOfRuns(bare, await run("tunnel"));
}

function pairOf({ field }: Figure, { bare, tunnel, stolen }: Pair<LoadResult>): Pair {
  return { bare: bare[field] ?? 0, tunnel: tunnel[field] ?? 0, stolen };
}

interface Part {
  readonly comparisons: readonly Comparison[];
  readonly measurements: readonly Measurement[];
}

/** What is not a pair of runs in a scene; `only` looks at the names of the parts. */
async function measureParts({ runs, only }: Selection): Promise<Part> {
  const parts: readonly [name: string, measure: () => Promise<Part>][] = [
    ["relay, packets; handshake of a leg", () => forwarding(runs)],
    ["relay, RSS of idle legs", idleLegs],
    ["processes: RSS idle, CPU of bulk TCP, start-up", () => processes(runs)],
  ];
  const results: Part[] = [];
  for (const [name, measure] of parts) {
    if (!name.includes(only)) continue;
    say(`  ${name} ...`);
    results.push(await measure());
  }
  return {
    comparisons: results.flatMap((it) => it.comparisons),
    measurements: results.flatMap((it) => it.measurements),
  };
}

async function forwarding(runs: number): Promise<Part> {
  const comparisons: Comparison[] = [];
  const results: Forwarding[] = [];
  for (const saturated of [false, true]) {
    const taken = await takePairs(
      runs,
      () => measureForwarding(FORWARDING_MS, saturated),
      (it) => it.loads.every(({ pair }) => counts({}, pair)),
    );
    for (const [at, train] of TRAINS.entries()) {
      const name = `relay, ${nameOfLoad(train)}${saturated ? ", saturated" : ""}`;
      const mark = FORWARDING_MARKS.get(train);
      comparisons.push(
        compare(
          { name, unit: "packets/CPU s", ...(mark && { mark }) },
          taken.flatMap(({ loads }) => loads[at]?.pair ?? []),
        ),
      );
    }
    results.push(...taken);
  }
  return {
    comparisons,
    measurements: [
      measured(
        "handshake of a leg, with Retry",
        "ms",
        results.map((it) => it.handshakeMs),
      ),
      measured(
        "leg, to the relay's welcome",
        "ms",
        results.map((it) => it.welcomeMs),
      ),
    ],
  };
}

function nameOfLoad(train: number): string {
  return train > 1 ? `in trains of ${train}` : "1,024 channels, one by one";
}

async function idleLegs(): Promise<Part> {
  const results = await measureIdleLegs([1000, 10_000]);
  const measurements = results.map(({ legs, bytesPerLeg }) =>
    measured(
      `relay, RSS of an idle leg at ${legs.toLocaleString("en")}`,
      "KiB",
      [bytesPerLeg / 1024],
      { type: "at-most", value: 40 },
    ),
  );
  return { comparisons: [], measurements };
}

async function processes(runs: number): Promise<Part> {
  const scene = await buildScene(LOCAL);
  try {
    const usage = () => scene.roles.map((it) => usageOf(it.process.pid));
    const idle = usage();
    const costs: number[][] = scene.roles.map(() => []);
    for (let count = 0; count < runs; count += 1) {
      const before = usage();
      const { bytes = 0 } = await scene.measure("tunnel", "tcp-send", [`ms=${BULK_MS}`]);
      for (const [at, { cpuSeconds }] of usage().entries()) {
        costs[at]?.push((cpuSeconds - (before[at]?.cpuSeconds ?? 0)) / (bytes / 1e9));
      }
    }
    const total = costs[0]?.map((_, run) => costs.reduce((sum, it) => sum + (it[run] ?? 0), 0));
    const names = scene.roles.map((it) => it.spec.name);
    const measurements = [
      ...names.map((name, at) =>
        measured(`${name}, RSS idle`, "MiB", [(idle[at]?.rssBytes ?? 0) / 2 ** 20]),
      ),
      ...names.map((name, at) => measured(`${name}, CPU of bulk TCP`, "s/GB", costs[at] ?? [])),
      measured("all roles, CPU of bulk TCP", "s/GB", total ?? []),
      measured("start-up (--help)", "ms", await startUps(), { type: "at-most", value: 100 }),
    ];
    return { comparisons: [], measurements };
  } finally {
    await scene.remove();
  }
}

async function startUps(): Promise<number[]> {
  const samples: number[] = [];
  for (let count = 0; count < START_UPS; count += 1) {
    const startedAt = performance.now();
    await must(["dist/ztna", "--help"]);
    samples.push(performance.now() - startedAt);
  }
  return samples;
}

async function printProfiles(only: string): Promise<number> {
  const unavailable = await profilerUnavailable();
  if (unavailable !== undefined) {
    say(`skipped: the profile ${unavailable}`);
    return 0;
  }

  for (const train of TRAINS) {
    const name = `relay, ${train} at a time`;
    if (!name.includes(only)) continue;
    say(`  ${name} ...`);
    for (const line of await profileForwarding(train, ADDON_WITH_SYMBOLS)) print(line);
    print("");
  }
  const tests = PROFILED_TESTS.filter((it) => it.name.includes(only));
  if (tests.length === 0) return 0;
  const scene = await buildScene(LOCAL);
  try {
    for (const load of tests) {
      say(`  ${load.name} ...`);
      for (const line of await profileTest(scene, load, ADDON_WITH_SYMBOLS)) print(line);
      print("");
    }
    return 0;
  } finally {
    await scene.remove();
  }
}
