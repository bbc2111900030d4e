import { describe, expect, test } from "bun:test";
import { after, instant, ms, seconds } from "../../../src/base/time.ts";
import {
  CREDIT_MAX,
  FRAME_UNIT_BYTES,
  FramePacer,
  HELD_BYTES_MAX,
  HELD_FRAMES_MAX,
} from "../../../src/protocol/frame-pacer.ts";

const T0 = instant(5000);
const FRAME = new Uint8Array(10);

describe("the pacer of control frames", () => {
  test("takes a burst at once and one more when the bucket has room", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 3 });

    const verdicts = Array.from({ length: 4 }, () => pacer.handleFrame(FRAME, T0));

    expect(verdicts).toEqual(["take", "take", "take", "wait"]);
    expect(pacer.pollTimeout()).toBe(after(T0, ms(100)));
    expect(pacer.pollFrame(after(T0, ms(99)))).toBeUndefined();
    expect(pacer.pollFrame(after(T0, ms(100)))).toBe(FRAME);
    expect(pacer.pollTimeout()).toBeUndefined();
  });

  test("sustains its rate for ever", () => {
    const pacer = new FramePacer({ perSecond: 64, burst: 1 });

    for (let count = 0; count < 10_000; count++) {
      expect(pacer.handleFrame(FRAME, after(T0, ms(count * 15.625)))).toBe("take");
    }
  });

  test("keeps the order: a frame behind one that waits waits as well", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 1 });
    const [first, second] = [Uint8Array.of(1), Uint8Array.of(2)];
    pacer.handleFrame(FRAME, T0);
    pacer.handleFrame(first, T0);

    expect(pacer.handleFrame(second, after(T0, ms(150)))).toBe("wait");
    expect(pacer.pollFrame(after(T0, ms(150)))).toBe(first);
    expect(pacer.pollFrame(after(T0, ms(250)))).toBe(second);
  });

  test("is exceeded when frames have waited for 10 s without a pause", () => {
    const pacer = new FramePacer({ perSecond: 1, burst: 1 });
    for (let count = 0; count < 20; count++) pacer.handleFrame(FRAME, T0);
    for (let at = 1; at <= 10; at++) pacer.pollFrame(after(T0, seconds(at)));

    expect(pacer.isExceeded(after(T0, ms(9999)))).toBe(false);
    expect(pacer.isExceeded(after(T0, seconds(10)))).toBe(true);
    expect(pacer.handleFrame(FRAME, after(T0, seconds(10)))).toBe("exceeded");
  });

  test("is exceeded by octets that wait, at the limit and one past it", () => {
    const pacer = new FramePacer({ perSecond: 1, burst: 1 });
    pacer.handleFrame(FRAME, T0);

    expect(pacer.handleFrame(new Uint8Array(HELD_BYTES_MAX), T0)).toBe("wait");
    expect(pacer.handleFrame(new Uint8Array(1), T0)).toBe("exceeded");
  });

  test("is exceeded by frames that wait, at the limit and one past it", () => {
    const pacer = new FramePacer({ perSecond: 1, burst: 1 });
    pacer.handleFrame(FRAME, T0);
    const verdicts = Array.from({ length: HELD_FRAMES_MAX + 1 }, () =>
      pacer.handleFrame(new Uint8Array(0), T0),
    );

    expect(verdicts.at(-2)).toBe("wait");
    expect(verdicts.at(-1)).toBe("exceeded");
  });

  test.each([
    { name: "just below a unit", bytes: FRAME_UNIT_BYTES - 1, taken: 34 },
    { name: "of a unit", bytes: FRAME_UNIT_BYTES, taken: 17 },
    { name: "as long as may be", bytes: 65_536, taken: 2 },
  ])("takes fewer long frames at once: $taken $name", ({ bytes, taken }) => {
    const pacer = new FramePacer({ perSecond: 10, burst: 34 });

    const verdicts = Array.from({ length: 40 }, () => pacer.handleFrame(new Uint8Array(bytes), T0));

    expect(verdicts.filter((verdict) => verdict === "take")).toHaveLength(taken);
  });

  test("lets a long frame wait for as long as it counts", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 4 });
    const long = new Uint8Array(2 * FRAME_UNIT_BYTES);
    pacer.handleFrame(long, T0);

    expect(pacer.handleFrame(long, T0)).toBe("wait");
    expect(pacer.pollTimeout()).toBe(after(T0, ms(200)));
    expect(pacer.pollFrame(after(T0, ms(199)))).toBeUndefined();
    expect(pacer.pollFrame(after(T0, ms(200)))).toBe(long);
  });

  test("takes a frame that counts for more than the bucket holds when that is full", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 3 });
    const long = new Uint8Array(65_536);

    expect(pacer.handleFrame(long, T0)).toBe("take");
    expect(pacer.handleFrame(long, T0)).toBe("wait");
    expect(pacer.pollFrame(after(T0, ms(299)))).toBeUndefined();
    expect(pacer.pollFrame(after(T0, ms(300)))).toBe(long);
  });

  test("takes answers that were asked for beside the burst, as many as were asked for", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 3 });
    for (let count = 0; count < 20; count++) pacer.addCredit();

    const verdicts = Array.from({ length: 24 }, () => pacer.handleFrame(FRAME, T0));

    expect(verdicts.filter((verdict) => verdict === "take")).toHaveLength(23);
    expect(verdicts.at(-1)).toBe("wait");
  });

  test("takes what waits as soon as its answers are asked for", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 1 });
    pacer.handleFrame(FRAME, T0);
    pacer.handleFrame(FRAME, T0);

    pacer.addCredit();

    expect(pacer.pollTimeout()).toBe(T0);
    expect(pacer.pollFrame(T0)).toBe(FRAME);
  });

  test("takes no long frame for an answer", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 1 });
    pacer.handleFrame(FRAME, T0);
    pacer.addCredit();

    expect(pacer.handleFrame(new Uint8Array(FRAME_UNIT_BYTES), T0)).toBe("wait");
  });

  test("expects so many answers and no more", () => {
    const pacer = new FramePacer({ perSecond: 10, burst: 1 });
    for (let count = 0; count <= CREDIT_MAX; count++) pacer.addCredit();

    const verdicts = Array.from({ length: CREDIT_MAX + 2 }, () => pacer.handleFrame(FRAME, T0));

    expect(verdicts.filter((verdict) => verdict === "take")).toHaveLength(CREDIT_MAX + 1);
  });
});
