import { describe, expect, test } from "bun:test";
import { CLOSE_CODE_NAMES, CloseCode, closeCodeName } from "../../../src/protocol/close-codes.ts";
import { isServiceName } from "../../../src/protocol/service-name.ts";

describe("close codes", () => {
  test("are numbered from 0 without a gap", () => {
    expect(CLOSE_CODE_NAMES.map((name) => CloseCode[name])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("are found by their number, and nothing else is", () => {
    expect(closeCodeName(5)).toBe("REVOKED");
    expect(closeCodeName(10)).toBeUndefined();
    expect(closeCodeName(0x1_0a)).toBeUndefined();
  });
});

describe("service names", () => {
  test.each(["a", "echo-service", "0", "a--b", "a".repeat(63)])("%s is one", (name) => {
    expect(isServiceName(name)).toBe(true);
  });

  test.each(["", "-a", "a-", "A", "a.b", "a_b", "*", "a\n", "ä", "a".repeat(64)])(
    "%p is none",
    (name) => {
      expect(isServiceName(name)).toBe(false);
    },
  );
});
