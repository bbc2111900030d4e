/**
 * Measures the product beside the same machine without it.
 *
 *   npm run bench                      every figure, 5 pairs of runs
 *   npm run bench -- --pairs 2 --only TCP
 *
 * Prints a table; writes `dist/bench.json` with every single run. Needs root, for namespaces and TUN.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Comparison, compare, median, type Pair } from "../test/bench/comparison.ts";
import { FIGURES, type Figure } from "../test/bench/figures.ts";
import { type Usage, usageOf } from "../test/bench/process-usage.ts";
import { buildScene, type LoadResult, type Scene } from "../test/bench/scene.ts";
import { namespacesUnavailable } from "../test/support/netns.ts";
import { must } from "../test/support/process.ts";
import { build } from "./build.ts";
import { print, say, step } from "./lib/step.ts";
import { table } from "./lib/table.ts";

const RUN_MS = 3000;

process.chdir(resolve(import.meta.dir, ".."));
process.exit(await main());

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { pairs: { type: "string", default: "5" }, only: { type: "string", default: "" } },
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
  const startUpMs = await startUp();
  const scene = await buildScene();
  try {
    const idle = scene.roles.map((it) => usageOf(it.process.pid));
    const figures = FIGURES.filter((it) => it.name.includes(values.only));
    const comparisons = await measureAll(scene, figures, Number(values.pairs));
    const cost = await costOfBulk(scene);
    report({ comparisons, idle, cost, startUpMs }, scene);
    return 0;
  } finally {
    await scene.remove();
  }
}

interface Results {
  readonly comparisons: readonly Comparison[];
  readonly idle: readonly Usage[];
  readonly cost: BulkCost;
  readonly startUpMs: number;
}

interface BulkCost {
  readonly gigabytes: number;
  /** By role, in the order of the scene's. */
  readonly cpuSecondsPerGb: readonly number[];
}

/** Figures of one test come from the same runs. */
async function measureAll(
  scene: Scene,
  figures: readonly Figure[],
  pairs: number,
): Promise<Comparison[]> {
  const byTest = Map.groupBy(figures, (it) => [it.test, ...it.options].join(" "));
  const comparisons: Comparison[] = [];
  for (const [name, group] of byTest) {
    const [first] = group;
    if (first === undefined) continue;
    say(`  ${name} ...`);
    const runs: { bare: LoadResult; tunnel: LoadResult }[] = [];
    for (let count = 0; count < pairs; count += 1) {
      const options = [...first.options, `ms=${durationOf(first)}`];
      const bare = await scene.measure("bare", first.test, options);
      runs.push({ bare, tunnel: await scene.measure("tunnel", first.test, options) });
    }
    for (const figure of group)
      comparisons.push(
        compare(
          figure,
          runs.map((it) => pairOf(figure, it)),
        ),
      );
  }
  return comparisons;
}

/** A search for a rate makes many steps. */
function durationOf(figure: Figure): number {
  return figure.test === "udp-rate" ? RUN_MS / 3 : RUN_MS;
}

function pairOf(figure: Figure, runs: { bare: LoadResult; tunnel: LoadResult }): Pair {
  return { bare: runs.bare[figure.field] ?? 0, tunnel: runs.tunnel[figure.field] ?? 0 };
}

async function costOfBulk(scene: Scene): Promise<BulkCost> {
  const pids = scene.roles.map((it) => it.process.pid);
  const before = pids.map((pid) => usageOf(pid).cpuSeconds);
  const { bytes = 0 } = await scene.measure("tunnel", "tcp-send", [`ms=${RUN_MS}`]);
  const gigabytes = bytes / 1e9;
  const used = pids.map((pid, at) => usageOf(pid).cpuSeconds - (before[at] ?? 0));
  return { gigabytes, cpuSecondsPerGb: used.map((it) => it / gigabytes) };
}

async function startUp(): Promise<number> {
  const samples: number[] = [];
  for (let count = 0; count < 15; count += 1) {
    const startedAt = performance.now();
    await must(["dist/ztna", "--help"]);
    samples.push(performance.now() - startedAt);
  }
  return median(samples);
}

function report({ comparisons, idle, cost, startUpMs }: Results, scene: Scene): void {
  const number = (it: number | undefined) =>
    it === undefined ? "-" : it.toLocaleString("en", { maximumFractionDigits: it < 100 ? 1 : 0 });
  const rows = comparisons.map((it) => [
    it.figure,
    it.unit,
    number(it.bare),
    number(it.tunnel),
    it.ratio === undefined ? "-" : it.ratio.toFixed(3),
    it.verdict,
  ]);
  for (const line of table([["figure", "unit", "no tunnel", "tunnel", "ratio", "mark"], ...rows])) {
    print(line);
  }

  const roles = scene.roles.map((it, at) => [
    it.spec.name,
    ((idle[at]?.rssBytes ?? 0) / 2 ** 20).toFixed(1),
    (cost.cpuSecondsPerGb[at] ?? 0).toFixed(2),
  ]);
  print("");
  for (const line of table([["role", "RSS idle, MiB", "CPU s per GB"], ...roles])) print(line);
  print(`\nstart-up (--help), median of 15: ${startUpMs.toFixed(1)} ms`);

  mkdirSync("dist", { recursive: true });
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, platform: process.platform };
  const json = { version: 1, machine, comparisons, idle, cost, startUpMs };
  writeFileSync("dist/bench.json", `${JSON.stringify(json, undefined, 2)}\n`);
  say("every run is in dist/bench.json");
}
