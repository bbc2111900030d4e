/** Figures that have none without a tunnel beside them: what the product itself costs. */
import type { Verdict } from "./comparison.ts";
import { median } from "./comparison.ts";

export interface Limit {
  readonly type: "at-least" | "at-most";
  readonly value: number;
}

export interface Measurement {
  readonly name: string;
  readonly unit: string;
  readonly samples: readonly number[];
  /** The median. */
  readonly value: number;
  readonly limit?: Limit;
  readonly verdict: Verdict;
}

export function measured(
  name: string,
  unit: string,
  samples: readonly number[],
  limit?: Limit,
): Measurement {
  const value = median(samples);
  const base = { name, unit, samples, value, ...(limit && { limit }) };
  if (samples.length === 0) return { ...base, verdict: "void" };
  if (limit === undefined) return { ...base, verdict: "no mark" };

  const isMet = limit.type === "at-least" ? value >= limit.value : value <= limit.value;
  return { ...base, verdict: isMet ? "met" : "missed" };
}
