/** What a process holds, as the system counts it. */
import { readdirSync, readFileSync } from "node:fs";

/** Resident memory in MiB. */
export function residentMib(pid: number): number {
  const [, kib = "0"] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1024;
}

export function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
