import { describe, expect, test } from "bun:test";
import { measured } from "../../bench/measurement.ts";
import { comparisonTable, measurementTable } from "../../bench/report.ts";

describe("report of the benchmarks", () => {
  test.each([
    { name: "a least value that is reached", type: "at-least", value: 10, verdict: "met" },
    { name: "a least value that is not", type: "at-least", value: 11, verdict: "missed" },
    { name: "a greatest value that is kept", type: "at-most", value: 10, verdict: "met" },
    { name: "a greatest value that is not", type: "at-most", value: 9, verdict: "missed" },
  ] as const)("judges the median by $name", ({ type, value, verdict }) => {
    expect(measured("figure", "ms", [1, 10, 99], { type, value }).verdict).toBe(verdict);
  });

  test("nothing measured is void", () => {
    const limit = { type: "at-most", value: 1 } as const;

    expect(measured("figure", "ms", [], limit).verdict).toBe("void");
  });

  test("a mark stands beside its figure", () => {
    const lines = comparisonTable([
      {
        figure: "throughput",
        unit: "Mbit/s",
        bare: 35_000,
        tunnel: 2600,
        ratio: 0.0743,
        pairs: [],
        void: 2,
        mark: { type: "at-least", value: 2500, ratio: 0.07 },
        verdict: "met",
      },
    ]);

    expect(lines[2]).toBe(
      "throughput  Mbit/s  35,000     2,600   0.074  ≥ 2,500 or 0.07 ×  met (2 void)",
    );
  });

  test("a limit stands beside its measurement", () => {
    const limit = { type: "at-most", value: 40 } as const;

    const lines = measurementTable([measured("idle leg", "KiB", [41], limit)]);

    expect(lines[2]).toBe("idle leg  KiB   41     ≤ 40  missed");
  });
});
