import { describe, expect, test } from "bun:test";
import { after, ms } from "../../../src/base/time.ts";
import { systemClock } from "../../../src/transport/system-clock.ts";

describe("system clock", () => {
  test("fires at the deadline or after it, never before", async () => {
    const at = after(systemClock.now(), ms(1.3));

    await new Promise<void>((resolve) => systemClock.schedule(at, resolve));

    expect(systemClock.now()).toBeGreaterThanOrEqual(at);
  });

  test("a deadline in the past fires at once", async () => {
    const fired = new Promise<string>((resolve) => {
      systemClock.schedule(after(systemClock.now(), ms(-1000)), () => resolve("fired"));
    });

    expect(await fired).toBe("fired");
  });

  test("a cancelled call never comes", async () => {
    let calls = 0;
    const cancel = systemClock.schedule(systemClock.now(), () => calls++);

    cancel();
    await new Promise<void>((resolve) =>
      systemClock.schedule(after(systemClock.now(), ms(1)), resolve),
    );

    expect(calls).toBe(0);
  });

  test("a deadline beyond the timer's range does not fire at once", async () => {
    let calls = 0;
    const cancel = systemClock.schedule(after(systemClock.now(), ms(2 ** 40)), () => calls++);

    await new Promise<void>((resolve) =>
      systemClock.schedule(after(systemClock.now(), ms(2)), resolve),
    );
    cancel();

    expect(calls).toBe(0);
  });
});
