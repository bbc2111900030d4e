/**
 * How much the peers of an agent or a connector can make it hold (`docs/protocol.md` §7): a quarter
 * of the memory that this process may have, and never more than 2 GiB.
 */
import { totalmem } from "node:os";
import type { EndpointLimits } from "./endpoint.ts";

export const PROCESS_BUFFER_BYTES_MAX = 2 ** 31;

/** @param memoryBytes of the machine, or of the container if that is less. */
export function machineLimits(
  memoryBytes: number = memoryOfProcess(),
): Pick<EndpointLimits, "processBufferBytesMax"> {
  const quarter = Math.floor(memoryBytes / 4);
  return { processBufferBytesMax: Math.min(quarter, PROCESS_BUFFER_BYTES_MAX) };
}

/** A container without a limit has none to tell, or one that no machine reaches. */
function memoryOfProcess(): number {
  const granted = process.constrainedMemory();
  return granted > 0 ? Math.min(granted, totalmem()) : totalmem();
}
