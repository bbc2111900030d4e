/**
 * Builds if needed, runs every check and test, and ends with their sum on one line.
 *
 *   npm test                          everything, long cases at a tenth of their size
 *   npm run test:long                 everything at full size
 *   npm test -- --only e2e            one part; several with commas
 *
 * A part that fails does not keep the next from running. The exit code is 1 if anything failed.
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { Glob } from "bun";
import { build } from "./build.ts";
import { attempt, print, StepFailure, say } from "./lib/step.ts";
import { formatTally, sum, type Tally, type Tool, tallyOf } from "./lib/tally.ts";

interface Part {
  readonly name: string;
  readonly tool: Tool;
  readonly command: readonly string[];
  readonly cwd?: string;
}

process.chdir(resolve(import.meta.dir, ".."));
process.exit(await main());

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { long: { type: "boolean", default: false }, only: { type: "string" } },
  });
  const parts = selected(values.only, values.long);
  const summaries: { name: string; tally: Tally; seconds: number }[] = [];

  summaries.push(await buildPart());
  for (const part of parts) {
    const { status, output, seconds } = await attempt(part.name, part.command, {
      ...(part.cwd === undefined ? {} : { cwd: part.cwd }),
      env: { ZTNA_LONG: values.long ? "1" : undefined },
    });
    const tally = tallyOf(part.tool, status, output);
    if (tally.failed > 0)
      say(`${output}\n  ${part.name}: failed\n  again: ${part.command.join(" ")}`);
    summaries.push({ name: part.name, tally, seconds });
  }

  for (const { name, tally, seconds } of summaries) {
    print(`${name.padEnd(28)} ${formatTally(tally).padEnd(36)} ${seconds} s`);
  }
  const total = sum(summaries.map((it) => it.tally));
  print(formatTally(total));
  return total.failed === 0 ? 0 : 1;
}

async function buildPart(): Promise<{ name: string; tally: Tally; seconds: number }> {
  const startedAt = performance.now();
  let status = 0;
  try {
    await build();
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error;
    say(`error: ${error.message}`);
    status = 1;
  }
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  return { name: "build", tally: tallyOf("check", status, ""), seconds };
}

function allParts(long: boolean): Part[] {
  const bin = (name: string) => `node_modules/.bin/${name}`;
  const cargo = (...args: string[]) => ({ command: ["cargo", ...args], cwd: "native" });
  return [
    {
      name: "format and lint",
      tool: "check",
      command: [bin("biome"), "check", "--error-on-warnings"],
    },
    { name: "types", tool: "check", command: [bin("tsc"), "--noEmit"] },
    { name: "rustfmt", tool: "check", ...cargo("fmt", "--check") },
    {
      name: "clippy",
      tool: "check",
      ...cargo("clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"),
    },
    {
      name: "fuzz bodies",
      tool: "check",
      ...cargo(
        ...["clippy", "--locked", "--package", "ztna-dataplane", "--features", "fuzzing"],
        ...["--", "-D", "warnings"],
      ),
    },
    { name: "rust", tool: "cargo", ...cargo("test", "--locked", "--workspace", "--no-fail-fast") },
    ...testFolders(long),
  ];
}

/** A folder without tests has no part: `bun test` takes no files for a mistake. */
function testFolders(long: boolean): Part[] {
  return [
    {
      name: "unit",
      paths: ["test/unit", "test/property", "test/sim", "test/architecture.test.ts"],
      // A property runs a hundred times as often in long runs.
      timeoutS: long ? 1200 : 60,
    },
    { name: "native", paths: ["test/native"], timeoutS: 120 },
    { name: "e2e", paths: ["test/e2e"], timeoutS: 1200 },
  ].flatMap(({ name, paths, timeoutS }) => {
    const present = paths.filter((it) => it.endsWith(".ts") || hasTests(it));
    if (present.length === 0) return [];
    const command = [
      process.execPath,
      "test",
      "--only-failures",
      `--timeout=${timeoutS * 1000}`,
      ...present,
    ];
    return [{ name, tool: "bun", command } as const];
  });
}

function hasTests(folder: string): boolean {
  return !new Glob(`${folder}/**/*.test.ts`).scanSync().next().done;
}

function selected(only: string | undefined, long: boolean): Part[] {
  const parts = allParts(long);
  if (only === undefined) return parts;

  const names = only.split(",");
  const unknown = names.filter((name) => !parts.some((it) => it.name === name));
  if (unknown.length > 0) {
    say(`error: no part is called ${unknown.join(", ")}`);
    say(`  hint: The parts are: ${parts.map((it) => it.name).join(", ")}.`);
    process.exit(2);
  }
  return parts.filter((it) => names.includes(it.name));
}
