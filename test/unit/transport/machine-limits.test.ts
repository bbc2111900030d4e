import { describe, expect, test } from "bun:test";
import { machineLimits, PROCESS_BUFFER_BYTES_MAX } from "../../../src/transport/machine-limits.ts";

describe("what peers can make a process hold", () => {
  test.each([
    { name: "a quarter of a small machine", memory: 1_000_000_003, most: 250_000_000 },
    { name: "a quarter at the limit", memory: 2 ** 33, most: PROCESS_BUFFER_BYTES_MAX },
    { name: "no more on a larger machine", memory: 2 ** 40, most: PROCESS_BUFFER_BYTES_MAX },
  ])("is $name", ({ memory, most }) => {
    expect(machineLimits(memory)).toEqual({ processBufferBytesMax: most });
  });

  test("is something on this machine", () => {
    expect(machineLimits().processBufferBytesMax).toBeGreaterThan(0);
  });
});
