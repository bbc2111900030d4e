import { describe, expect, test } from "bun:test";
import { compare, median, takePairs } from "../../bench/comparison.ts";
import type { Figure } from "../../bench/figures.ts";

const FIGURE: Figure = {
  name: "throughput",
  unit: "Mbit/s",
  test: "tcp-send",
  options: [],
  durationMs: 1000,
  field: "mbitPerSecond",
  anchor: 1000,
  mark: { type: "at-least", value: 400, ratio: 0.5 },
};

describe("comparison of runs", () => {
  test.each([
    { name: "nothing", values: [], middle: 0 },
    { name: "one", values: [7], middle: 7 },
    { name: "an odd number", values: [9, 1, 5], middle: 5 },
    { name: "an even number", values: [4, 1, 2, 100], middle: 3 },
  ])("takes the middle of $name", ({ values, middle }) => {
    expect(median(values)).toBe(middle);
  });

  test.each([
    { name: "the figure itself suffices", bare: 2000, tunnel: 400, verdict: "met" },
    { name: "the ratio suffices", bare: 600, tunnel: 300, verdict: "met" },
    { name: "neither is reached", bare: 2000, tunnel: 399, verdict: "missed" },
    { name: "the machine was too slow to tell", bare: 499, tunnel: 499, verdict: "void" },
    { name: "half of the anchor still counts", bare: 500, tunnel: 1, verdict: "missed" },
  ])("$name", ({ bare, tunnel, verdict }) => {
    expect(compare(FIGURE, [{ bare, tunnel, stolen: 0 }]).verdict).toBe(verdict as never);
  });

  test("void pairs are counted and left out", () => {
    const pairs = [
      { bare: 100, tunnel: 90, stolen: 0 },
      { bare: 1000, tunnel: 90, stolen: 0.06 },
      { bare: 1000, tunnel: 200, stolen: 0.05 },
    ];

    expect(compare(FIGURE, pairs)).toMatchObject({ void: 2, bare: 1000, tunnel: 200, ratio: 0.2 });
  });

  test.each([
    { name: "as many as are wanted", from: 0, taken: [0, 1] },
    { name: "one more for each that does not count", from: -2, taken: [-2, -1, 0, 1] },
    { name: "no more than three times as many", from: -9, taken: [-9, -8, -7, -6, -5, -4] },
  ])("takes $name", async ({ from, taken }) => {
    let next = from;
    const pairs = await takePairs(
      2,
      async () => next++,
      (it) => it >= 0,
    );

    expect(pairs).toEqual([...taken]);
  });

  test("runs of which none counts are shown and judged void", () => {
    const compared = compare(FIGURE, [{ bare: 400, tunnel: 400, stolen: 0 }]);

    expect(compared).toMatchObject({ void: 1, bare: 400, tunnel: 400, verdict: "void" });
  });

  test("runs of a slow machine are shown without those in which it was not left alone", () => {
    const pairs = [
      { bare: 400, tunnel: 100, stolen: 0 },
      { bare: 400, tunnel: 10, stolen: 0.4 },
      { bare: 400, tunnel: 10, stolen: 0.3 },
    ];

    expect(compare(FIGURE, pairs)).toMatchObject({ void: 3, tunnel: 100, verdict: "void" });
  });

  test("a mark without a ratio counts by its value alone", () => {
    const figure = { ...FIGURE, mark: { type: "at-least", value: 400 } } as const;

    expect(compare(figure, [{ bare: 600, tunnel: 399, stolen: 0 }]).verdict).toBe("missed");
  });

  test("a mark without a value counts by its ratio alone", () => {
    const figure = { ...FIGURE, anchor: 0, mark: { type: "at-least", ratio: 5 } } as const;

    expect(compare(figure, [{ bare: 4, tunnel: 20, stolen: 0 }]).verdict).toBe("met");
    expect(compare(figure, [{ bare: 4, tunnel: 19, stolen: 0 }]).verdict).toBe("missed");
  });

  test("a round trip is judged by what the tunnel adds", () => {
    const figure: Figure = { ...FIGURE, anchor: 0, mark: { type: "at-most-more", value: 150 } };

    expect(compare(figure, [{ bare: 20, tunnel: 170, stolen: 0 }]).verdict).toBe("met");
    expect(compare(figure, [{ bare: 20, tunnel: 171, stolen: 0 }]).verdict).toBe("missed");
  });
});
