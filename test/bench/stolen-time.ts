/** Processor time that a virtual machine's host gave to others. */
import { readFileSync } from "node:fs";
import type { Pair } from "./comparison.ts";

/** What a run gave, and the part of all processors' time that was stolen meanwhile. */
interface Timed<T> {
  readonly result: T;
  readonly stolen: number;
}

export async function withStolenTime<T>(use: () => Promise<T>): Promise<Timed<T>> {
  const before = processorTime();
  const result = await use();
  const after = processorTime();
  const all = after.all - before.all;
  return { result, stolen: all > 0 ? (after.stolen - before.stolen) / all : 0 };
}

export function pairOfRuns<T>(bare: Timed<T>, tunnel: Timed<T>): Pair<T> {
  const stolen = Math.max(bare.stolen, tunnel.stolen);
  return { bare: bare.result, tunnel: tunnel.result, stolen };
}

/** In ticks (proc(5), the first line of /proc/stat); guests' time is part of user's. */
function processorTime(): { readonly all: number; readonly stolen: number } {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const fields = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return { all: fields.reduce((sum, it) => sum + it, 0), stolen: fields[7] ?? 0 };
}
