import { describe, expect, test } from "bun:test";
import { formatTally, sum, tallyOf } from "../../../scripts/lib/tally.ts";

describe("tally of tests", () => {
  test("adds up every summary of bun", () => {
    const output =
      " 3 pass\n 2 skip\n 0 fail\n 9 expect() calls\nRan 5 tests across 2 files. [1ms]\n";

    expect(tallyOf("bun", 0, output)).toEqual({ passed: 3, failed: 0, skipped: 2 });
  });

  test("adds up every test binary of cargo", () => {
    const output = [
      "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
      "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
    ].join("\n");

    expect(tallyOf("cargo", 101, output)).toEqual({ passed: 9, failed: 3, skipped: 1 });
  });

  test("looks through colours", () => {
    expect(tallyOf("bun", 0, "\u001b[32m 4 pass\u001b[0m\n")).toMatchObject({ passed: 4 });
  });

  test("a test named like a summary is not counted", () => {
    expect(tallyOf("bun", 0, "(pass) a client > lets 5 pass\n 1 pass\n")).toMatchObject({
      passed: 1,
    });
  });

  test.each([
    { name: "a crash before the summary", tool: "cargo", status: 101, output: "error: aborting" },
    { name: "a crash after good tests", tool: "bun", status: 133, output: " 4 pass\n 0 fail\n" },
    { name: "a run without any test", tool: "bun", status: 0, output: " 0 pass\n 0 fail\n" },
    {
      name: "an error outside a test",
      tool: "bun",
      status: 1,
      output: " 4 pass\n 0 fail\n 1 error\n",
    },
    { name: "a check that complains", tool: "check", status: 1, output: "" },
  ] as const)("$name is one failure", ({ tool, status, output }) => {
    expect(tallyOf(tool, status, output)).toMatchObject({ failed: 1 });
  });

  test("the sum of all parts is one line, and names skipped tests only if there are any", () => {
    const parts = [tallyOf("check", 0, ""), tallyOf("bun", 0, " 3 pass\n 0 fail\n")];

    expect(formatTally(sum(parts))).toBe("4 passed, 0 failed");
    expect(formatTally(sum([...parts, { passed: 0, failed: 0, skipped: 2 }]))).toBe(
      "4 passed, 0 failed, 2 skipped",
    );
  });
});
