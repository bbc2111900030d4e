import { expect, test } from "bun:test";
import { table } from "../../../scripts/lib/table.ts";

test("a table lines up its columns and puts numbers to the right", () => {
  const rows = [
    ["service", "bytes"],
    ["echo-service", 7],
    ["game", 12_345],
  ];

  expect(table(rows)).toEqual([
    "service       bytes",
    "------------  -----",
    "echo-service      7",
    "game          12345",
  ]);
});
