/**
 * How much the peers of an agent or a connector can make it hold (`docs/protocol.md` §7, §8): a
 * quarter of the memory that this process may have, and never more than 2 GiB; as many flows as it has
 * descriptors for, as each may need one.
 */
import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import type { EndpointLimits } from "./endpoint.ts";

export const PROCESS_BUFFER_BYTES_MAX = 2 ** 31;
export const FLOWS_MAX = 16_384;
/** Descriptors for everything else: sockets, files, connections being refused. */
export const DESCRIPTORS_RESERVED = 256;
/** With fewer descriptors than these flows need, they run out first, which ends one flow at a time. */
export const FLOWS_MIN = 256;

export interface MachineResources {
  /** Of the machine, or of the container if that is less. */
  readonly memoryBytes: number;
  readonly descriptors: number;
}

export function machineLimits(
  { memoryBytes, descriptors }: MachineResources = resourcesOfProcess(),
): Pick<EndpointLimits, "processBufferBytesMax" | "flowsMax"> {
  const quarter = Math.floor(memoryBytes / 4);
  const left = Math.max(FLOWS_MIN, descriptors - DESCRIPTORS_RESERVED);
  return {
    processBufferBytesMax: Math.min(quarter, PROCESS_BUFFER_BYTES_MAX),
    flowsMax: Math.min(left, FLOWS_MAX),
  };
}

function resourcesOfProcess(): MachineResources {
  return { memoryBytes: memoryOfProcess(), descriptors: descriptorsIn(readLimits()) };
}

/** A container without a limit has none to tell, or one that no machine reaches. */
function memoryOfProcess(): number {
  const granted = process.constrainedMemory();
  return granted > 0 ? Math.min(granted, totalmem()) : totalmem();
}

/** Returns the soft limit of descriptors that `/proc/self/limits` tells; infinite if it does not. */
export function descriptorsIn(limits: string): number {
  const { soft } = /^Max open files +(?<soft>[0-9]+) /m.exec(limits)?.groups ?? {};
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

/** Only Linux has the file. */
function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    return "";
  }
}
