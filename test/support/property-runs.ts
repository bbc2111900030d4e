/**
 * How often a property runs: a hundred times as often in long runs.
 *
 * A failure prints its seed and path; `fc.assert` takes both to replay it.
 */
import { LONG } from "./scale.ts";

export function runs(count: number): { readonly numRuns: number } {
  return { numRuns: LONG ? 100 * count : count };
}
