/**
 * How often properties run: `FUZZ_FACTOR=100` multiplies every count, for long runs.
 *
 * A failure prints its seed and path; `fc.assert` takes both to replay it.
 */
const FACTOR = Math.max(1, Number(process.env["FUZZ_FACTOR"] ?? "1") || 1);

export function runs(count: number): { readonly numRuns: number } {
  return { numRuns: Math.round(count * FACTOR) };
}
