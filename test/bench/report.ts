/** Lays out what was measured for people. */
import { table } from "../../scripts/lib/table.ts";
import type { Comparison, Verdict } from "./comparison.ts";
import type { Mark } from "./figures.ts";
import type { Limit, Measurement } from "./measurement.ts";

export function comparisonTable(comparisons: readonly Comparison[]): string[] {
  const rows = comparisons.map((it) => [
    it.figure,
    it.unit,
    amount(it.bare),
    amount(it.tunnel),
    it.ratio.toFixed(3),
    it.mark === undefined ? "-" : describeMark(it.mark),
    judged(it.verdict, it.void),
  ]);
  return table([["figure", "unit", "no tunnel", "tunnel", "ratio", "mark", ""], ...rows]);
}

export function measurementTable(measurements: readonly Measurement[]): string[] {
  const rows = measurements.map((it) => [
    it.name,
    it.unit,
    amount(it.value),
    it.limit === undefined ? "-" : describeLimit(it.limit),
    judged(it.verdict, 0),
  ]);
  return table([["figure", "unit", "value", "mark", ""], ...rows]);
}

function describeMark(mark: Mark): string {
  switch (mark.type) {
    case "at-least":
      return `≥ ${[
        ...(mark.value === undefined ? [] : [amount(mark.value)]),
        ...(mark.ratio === undefined ? [] : [`${mark.ratio} ×`]),
      ].join(" or ")}`;
    case "at-most-more":
      return `≤ + ${amount(mark.value)}`;
  }
}

function describeLimit({ type, value }: Limit): string {
  return `${type === "at-least" ? "≥" : "≤"} ${amount(value)}`;
}

function judged(verdict: Verdict, voidPairs: number): string {
  const text = verdict === "no mark" ? "" : verdict;
  return voidPairs > 0 && verdict !== "void" ? `${text} (${voidPairs} void)`.trim() : text;
}

function amount(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
}
