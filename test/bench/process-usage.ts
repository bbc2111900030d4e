/** What a process has used, from /proc. */
import { readFileSync } from "node:fs";

export interface Usage {
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

export function usageOf(pid: number): Usage {
  // After the name, which is in parentheses and may contain anything, come the fields from the third on.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  const [, resident = "0"] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ");
  return { cpuSeconds: ticks / TICKS_PER_SECOND, rssBytes: Number(resident) * PAGE };
}

/** USER_HZ, the same on every Linux that we build for. */
const TICKS_PER_SECOND = 100;
const PAGE = 4096;
