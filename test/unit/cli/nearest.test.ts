import { describe, expect, test } from "bun:test";
import { nearestName } from "../../../src/cli/nearest.ts";

describe("nearest name", () => {
  test.each([
    { name: "a letter left out", typed: "lisen", expected: "listen" },
    { name: "a letter too many", typed: "listeen", expected: "listen" },
    { name: "two letters swapped", typed: "lsiten", expected: "listen" },
    { name: "another case and punctuation", typed: "trust_domain", expected: "trustDomain" },
    { name: "the nearer of two", typed: "certificates", expected: "certificate" },
    { name: "another word", typed: "socks", expected: undefined },
    { name: "a third of the letters wrong", typed: "liztan", expected: "listen" },
    { name: "more than a third wrong", typed: "lizzan", expected: undefined },
  ])("finds $name or nothing", ({ typed, expected }) => {
    expect(nearestName(typed, ["certificate", "listen", "trustDomain"])).toBe(expected);
  });
});
