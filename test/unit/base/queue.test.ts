import { expect, test } from "bun:test";
import { Queue } from "../../../src/base/queue.ts";

test("a queue gives back what went in, in order, over any length", () => {
  const queue = new Queue<number>();
  const out: (number | undefined)[] = [];
  for (let round = 0; round < 3; round++) {
    for (let value = 0; value < 5000; value++) queue.push(value);
    for (let value = 0; value < 5000; value++) out.push(queue.shift());
    expect(queue.length).toBe(0);
    expect(queue.shift()).toBeUndefined();
  }

  const once = Array.from({ length: 5000 }, (_, index) => index);
  expect(out).toEqual([...once, ...once, ...once]);
});
