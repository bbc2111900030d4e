import { describe, expect, test } from "bun:test";
import { type Instant, instant } from "../../../src/base/time.ts";
import { ReconnectSchedule } from "../../../src/leg/reconnect-schedule.ts";

describe("reconnect schedule", () => {
  test("tries at 0, 0.25, 0.5, 1 and 2 s, then every 2 s", () => {
    expect(attemptsUntil(9000, () => 0.5)).toEqual([0, 250, 500, 1000, 2000, 4000, 6000, 8000]);
  });

  test.each([
    { name: "least", random: 0, second: 1500 },
    { name: "most", random: 0.999_999, second: 2500 },
  ])("spreads the steady interval by a quarter at $name", ({ random, second }) => {
    const [first = 0, next = 0] = attemptsUntil(10_000, () => random).slice(4);

    expect(next - first).toBe(second);
  });

  test("after five minutes the interval doubles up to 30 s and stays there", () => {
    const attempts = attemptsUntil(600_000, () => 0.5).filter((at) => at >= 300_000);
    const waits = attempts.slice(1).map((at, index) => at - (attempts[index] ?? 0));

    expect(waits.slice(0, 6)).toEqual([2000, 4000, 8000, 16_000, 30_000, 30_000]);
  });

  test("no interval exceeds 30 s however the spread falls", () => {
    const attempts = attemptsUntil(900_000, () => 0.999_999);
    const waits = attempts.slice(1).map((at, index) => at - (attempts[index] ?? 0));

    expect(Math.max(...waits)).toBe(30_000);
  });

  test("starts over after a restart", () => {
    const schedule = new ReconnectSchedule(() => 0.5, instant(0));
    for (let count = 0; count < 20; count++) schedule.handleAttempt(instant(count * 1000));

    schedule.restart(instant(50_000));

    expect(schedule.handleAttempt(instant(50_000))).toBe(instant(50_250));
  });
});

function attemptsUntil(end: number, random: () => number): number[] {
  const schedule = new ReconnectSchedule(random, instant(0));
  const attempts: number[] = [];
  for (let at: Instant = instant(0); at <= end; at = schedule.handleAttempt(at)) attempts.push(at);
  return attempts;
}
