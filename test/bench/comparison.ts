/**
 * Compares runs with and without the tunnel.
 *
 * Runs come in pairs, one right after the other, because what else the machine does changes from
 * minute to minute. A pair says something about the machine only, and is void, when its run without a
 * tunnel is under half of the anchor, or when the host took the machine's processors away meanwhile.
 */
import type { Figure, Mark } from "./figures.ts";

/** Of a mark: reached, not reached, not set, or not to be told from runs that say nothing. */
export type Verdict = "met" | "missed" | "no mark" | "void";

export interface Pair<T = number> {
  readonly bare: T;
  readonly tunnel: T;
  /** Part of the processors' time that the host gave to others, in the run that lost more. */
  readonly stolen: number;
}

export interface Comparison {
  readonly figure: string;
  readonly unit: string;
  /**
   * Medians over the pairs that count. If none does they prove nothing, and are over those in which
   * the machine was left alone; over all if there was no such pair either.
   */
  readonly bare: number;
  readonly tunnel: number;
  /** Median of the pairs' ratios. */
  readonly ratio: number;
  readonly pairs: readonly Pair[];
  readonly void: number;
  readonly mark?: Mark;
  readonly verdict: Verdict;
}

export function compare(
  figure: Pick<Figure, "name" | "unit" | "anchor" | "mark">,
  pairs: readonly Pair[],
): Comparison {
  const counted = pairs.filter((it) => counts(figure, it));
  const base = {
    figure: figure.name,
    unit: figure.unit,
    pairs,
    void: pairs.length - counted.length,
    ...(figure.mark && { mark: figure.mark }),
  };
  const undisturbed = pairs.filter((it) => it.stolen <= STOLEN_MAX);
  const shown = [counted, undisturbed, pairs].find((it) => it.length > 0) ?? [];
  const bare = median(shown.map((it) => it.bare));
  const tunnel = median(shown.map((it) => it.tunnel));
  const ratio = median(shown.map((it) => it.tunnel / it.bare));
  const verdict = counted.length > 0 ? judge(figure.mark, bare, tunnel, ratio) : "void";
  return { ...base, bare, tunnel, ratio, verdict };
}

/** Returns whether a pair tells anything about the product. */
export function counts({ anchor = 0 }: Pick<Figure, "anchor">, { bare, stolen }: Pair): boolean {
  return bare >= anchor / 2 && stolen <= STOLEN_MAX;
}

/** Takes pairs until `wanted` of them count; gives up after three times as many. */
export async function takePairs<T>(
  wanted: number,
  take: () => Promise<T>,
  isCounted: (pair: T) => boolean,
): Promise<T[]> {
  const pairs: T[] = [];
  while (pairs.length < ATTEMPTS * wanted && pairs.filter(isCounted).length < wanted) {
    pairs.push(await take());
  }
  return pairs;
}

/** The middle, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = 0, high = low] = sorted.slice(Math.ceil(middle) - 1, Math.floor(middle) + 1);
  return (low + high) / 2;
}

/** With a tenth stolen, processes that wait for each other were seen to lose a third. */
const STOLEN_MAX = 0.05;
/** Pairs taken for each that is wanted, at most. */
const ATTEMPTS = 3;

function judge(mark: Mark | undefined, bare: number, tunnel: number, ratio: number): Verdict {
  switch (mark?.type) {
    case undefined:
      return "no mark";
    case "at-least":
      return tunnel >= (mark.value ?? Infinity) || ratio >= (mark.ratio ?? Infinity)
        ? "met"
        : "missed";
    case "at-most-more":
      return tunnel - bare <= mark.value ? "met" : "missed";
  }
}
