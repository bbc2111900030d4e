import { describe, expect, test } from "bun:test";
import { after, instant, ms, seconds } from "../../../src/base/time.ts";
import { FramePacer, HELD_BYTES_MAX, HELD_FRAMES_MAX } from "../../../src/relay/frame-pacer.ts";

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
});
