/**
 * How fast one leg's control frames are taken (`docs/protocol.md` §8).
 *
 * A bucket of `burst` frames refills at `perSecond`. Frames beyond it wait here in order; whoever
 * keeps frames waiting for {@link OVER_RATE_MAX}, or has more of them waiting than a connection's
 * credit would hold, has exceeded the limit.
 */
import { Queue } from "../base/queue.ts";
import { after, type Instant, instant, ms, seconds } from "../base/time.ts";

/** `docs/protocol.md` §8: after 10 s beyond the rate the leg is closed. */
export const OVER_RATE_MAX = seconds(10);
/** Twice the connection's credit of 256 KiB (`docs/protocol.md` §3): one read-ahead, one on the way. */
export const HELD_BYTES_MAX = 524_288;
export const HELD_FRAMES_MAX = 4096;

export class FramePacer {
  readonly #costMs: number;
  readonly #burstMs: number;
  readonly #held = new Queue<Uint8Array>();
  #heldBytes = 0;
  /** When the bucket is full again. */
  #fullAt: Instant = instant(0);
  #overSince: Instant | undefined;

  constructor({ perSecond, burst }: { readonly perSecond: number; readonly burst: number }) {
    this.#costMs = 1000 / perSecond;
    this.#burstMs = burst * this.#costMs;
  }

  /** Returns whether the frame may be taken, waits for {@link pollFrame}, or is one too many. */
  handleFrame(frame: Uint8Array, now: Instant): "take" | "wait" | "exceeded" {
    if (this.#held.length === 0 && this.#trySpend(now)) return "take";
    if (
      this.#held.length >= HELD_FRAMES_MAX ||
      this.#heldBytes + frame.length > HELD_BYTES_MAX ||
      this.isExceeded(now)
    ) {
      return "exceeded";
    }

    this.#held.push(frame);
    this.#heldBytes += frame.length;
    this.#overSince ??= now;
    return "wait";
  }

  /** Takes the next frame that waited, if the bucket has room for it. */
  pollFrame(now: Instant): Uint8Array | undefined {
    if (this.#held.length === 0 || !this.#trySpend(now)) return undefined;

    const frame = this.#held.shift();
    this.#heldBytes -= frame?.length ?? 0;
    if (this.#held.length === 0) this.#overSince = undefined;
    return frame;
  }

  /** Returns when {@link pollFrame} has something, or the limit is exceeded. */
  pollTimeout(): Instant | undefined {
    if (this.#overSince === undefined) return undefined;
    const room = Math.ceil(this.#fullAt + this.#costMs - this.#burstMs);
    return instant(Math.min(room, after(this.#overSince, OVER_RATE_MAX)));
  }

  isExceeded(now: Instant): boolean {
    return this.#overSince !== undefined && now >= after(this.#overSince, OVER_RATE_MAX);
  }

  #trySpend(now: Instant): boolean {
    const fullAt = Math.max(this.#fullAt, now) + this.#costMs;
    // A thousandth of a millisecond absorbs the rounding of costs that are no binary fractions.
    if (fullAt > after(now, ms(this.#burstMs)) + 0.001) return false;

    this.#fullAt = instant(fullAt);
    return true;
  }
}
