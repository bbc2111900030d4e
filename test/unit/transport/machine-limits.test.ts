import { describe, expect, test } from "bun:test";
import {
  DESCRIPTORS_RESERVED,
  descriptorsIn,
  FLOWS_MAX,
  FLOWS_MIN,
  machineLimits,
  PROCESS_BUFFER_BYTES_MAX,
} from "../../../src/transport/machine-limits.ts";

const GIB = 2 ** 30;

describe("what peers can make a process hold", () => {
  test.each([
    { name: "a quarter of a small machine", memory: 1_000_000_003, most: 250_000_000 },
    { name: "a quarter at the limit", memory: 2 ** 33, most: PROCESS_BUFFER_BYTES_MAX },
    { name: "no more on a larger machine", memory: 2 ** 40, most: PROCESS_BUFFER_BYTES_MAX },
  ])("is $name", ({ memory: memoryBytes, most }) => {
    const { processBufferBytesMax } = machineLimits({ memoryBytes, descriptors: 1024 });

    expect(processBufferBytesMax).toBe(most);
  });

  test.each([
    { name: "as many as descriptors are left", descriptors: 1024, most: 768 },
    { name: "all there may be at the limit", descriptors: FLOWS_MAX + DESCRIPTORS_RESERVED },
    { name: "one less below it", descriptors: FLOWS_MAX + DESCRIPTORS_RESERVED - 1, most: 16_383 },
    { name: "no more with any descriptors", descriptors: Number.POSITIVE_INFINITY },
    { name: "some with hardly any", descriptors: 90, most: FLOWS_MIN },
  ])("is flows: $name", ({ descriptors, most = FLOWS_MAX }) => {
    expect(machineLimits({ memoryBytes: GIB, descriptors }).flowsMax).toBe(most);
  });

  test("is something on this machine", () => {
    const { processBufferBytesMax, flowsMax } = machineLimits();

    expect(processBufferBytesMax).toBeGreaterThan(0);
    expect(flowsMax).toBeGreaterThanOrEqual(FLOWS_MIN);
  });
});

describe("the limit of descriptors", () => {
  test.each([
    {
      name: "the soft one",
      line: "Max open files            1024                 524288  files",
      is: 1024,
    },
    {
      name: "none",
      line: "Max open files            unlimited            unlimited            files",
      is: Number.POSITIVE_INFINITY,
    },
    { name: "unknown elsewhere", line: "", is: Number.POSITIVE_INFINITY },
  ])("is $name", ({ line, is }) => {
    const limits = `Max processes             7                    8                    processes\n${line}\n`;

    expect(descriptorsIn(limits)).toBe(is);
  });
});
