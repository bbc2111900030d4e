import { describe, expect, test } from "bun:test";
import { formatBytes, formatDuration, formatRtt, formatTable } from "../../../src/cli/text.ts";

describe("figures for people", () => {
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [10_240, "10 KiB"],
    [1024 ** 2 - 1, "1.0 MiB"],
    [1.5 * 1024 ** 3, "1.5 GiB"],
    [5000 * 1024 ** 4, "5000 TiB"],
  ])("%d octets are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test.each([
    [9, "0.01 ms"],
    [9990, "9.99 ms"],
    [9999, "10.0 ms"],
    [99_900, "99.9 ms"],
    [99_999, "100 ms"],
  ])("%d µs are %s", (microseconds, text) => {
    expect(formatRtt(microseconds)).toBe(text);
  });

  test.each([
    [0.9, "0 s"],
    [59, "59 s"],
    [60, "1 min 0 s"],
    [3661, "1 h 1 min"],
    [90_000, "1 d 1 h"],
  ])("%d seconds are %s", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  test("columns of a table stand side by side without trailing blanks", () => {
    expect(
      formatTable([
        ["A", "B"],
        ["long", ""],
        ["x", "yy"],
      ]),
    ).toBe("A     B\nlong\nx     yy\n");
  });
});
