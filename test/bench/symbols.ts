/**
 * Names of functions by their place in a file.
 *
 * The data plane is loaded from memory, so a profiler knows the place and no name; the same code with
 * its names lies in the build folder.
 */
import { must } from "../support/process.ts";

export interface Symbols {
  /** Returns the function that contains the octet at `offset` of the file. */
  at(offset: number): string | undefined;
}

export async function readSymbols(file: string): Promise<Symbols> {
  const segments = await must(["readelf", "--program-headers", "--wide", file]);
  const names = await must(["nm", "--defined-only", "--numeric-sort", "--demangle", file]);
  return parseSymbols(segments, names);
}

/** @param segments of `readelf --program-headers --wide`. @param names of `nm --numeric-sort`. */
export function parseSymbols(segments: string, names: string): Symbols {
  const loads = [...segments.matchAll(LOAD)].map(([, offset, address, , size]) => ({
    offset: Number(offset),
    address: Number(address),
    size: Number(size),
  }));
  const functions = [...names.matchAll(FUNCTION)].map(([, address, name = ""]) => ({
    address: Number.parseInt(address ?? "", 16),
    name,
  }));
  return {
    at(offset) {
      const load = loads.find((it) => offset >= it.offset && offset < it.offset + it.size);
      if (load === undefined) return undefined;
      const address = offset - load.offset + load.address;
      return functions[lastAtMost(functions, address)]?.name;
    },
  };
}

/** Index of the last element whose address is not above; -1 if there is none. */
function lastAtMost(sorted: readonly { readonly address: number }[], address: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle]?.address ?? Infinity) <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const LOAD = /^\s+LOAD\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)/gm;
const FUNCTION = /^([0-9a-f]+) [tTwW] (.+)$/gm;
