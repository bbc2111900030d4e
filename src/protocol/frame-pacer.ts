/**
 * How fast one leg's control frames are taken (`docs/protocol.md` §8).
 *
 * A bucket of `burst` frames refills at `perSecond`. Frames beyond it wait here in order; whoever
 * keeps frames waiting for {@link OVER_RATE_MAX}, or has more of them waiting than a connection's
 * credit would hold, has exceeded the limit.
 *
 * - **A long frame counts as several**: one more for each {@link FRAME_UNIT_BYTES} full.
 * - **An answer that was asked for is free**: what third parties make this side ask of a peer does
 *   not use up the peer's own rate.
 */
import { Queue } from "../base/queue.ts";
import { after, type Instant, instant, ms, seconds } from "../base/time.ts";

/** `docs/protocol.md` §8: after 10 s beyond the rate the leg is closed. */
export const OVER_RATE_MAX = seconds(10);
/** Twice the connection's credit of 256 KiB (`docs/protocol.md` §3): one read-ahead, one on the way. */
export const HELD_BYTES_MAX = 524_288;
export const HELD_FRAMES_MAX = 4096;
/** At full rate the frames of a connector come to 640 times this, 2.5 MiB a second, at most. */
export const FRAME_UNIT_BYTES = 4096;
/** Frames asked for and not yet seen; four times the offers that may be unanswered. */
export const CREDIT_MAX = 8192;

export class FramePacer {
  readonly #costMs: number;
  readonly #burstMs: number;
  readonly #held = new Queue<Uint8Array>();
  #credit = 0;
  #heldBytes = 0;
  /** When the bucket is full again. */
  #fullAt: Instant = instant(0);
  #overSince: Instant | undefined;

  constructor({ perSecond, burst }: { readonly perSecond: number; readonly burst: number }) {
    this.#costMs = 1000 / perSecond;
    this.#burstMs = burst * this.#costMs;
  }

  /** The peer was asked for a frame. Answers are short, so no long frame is paid for with it. */
  addCredit(): void {
    this.#credit = Math.min(this.#credit + 1, CREDIT_MAX);
  }

  /** Returns whether the frame may be taken, waits for {@link pollFrame}, or is one too many. */
  handleFrame(frame: Uint8Array, now: Instant): "take" | "wait" | "exceeded" {
    if (this.#held.length === 0 && this.#trySpend(frame, now)) return "take";
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
    const frame = this.#held.first;
    if (frame === undefined || !this.#trySpend(frame, now)) return undefined;

    this.#held.shift();
    this.#heldBytes -= frame.length;
    if (this.#held.length === 0) this.#overSince = undefined;
    return frame;
  }

  /** Returns when {@link pollFrame} has something, or the limit is exceeded. */
  pollTimeout(): Instant | undefined {
    const { first } = this.#held;
    if (this.#overSince === undefined || first === undefined) return undefined;
    if (this.#isPaidFor(first)) return this.#overSince;
    const room = Math.ceil(this.#fullAt + this.#costOf(first) - this.#burstMs);
    return instant(Math.min(room, after(this.#overSince, OVER_RATE_MAX)));
  }

  isExceeded(now: Instant): boolean {
    return this.#overSince !== undefined && now >= after(this.#overSince, OVER_RATE_MAX);
  }

  #isPaidFor(frame: Uint8Array): boolean {
    return this.#credit > 0 && frame.length < FRAME_UNIT_BYTES;
  }

  /** A frame that counts for more than the bucket holds takes all of it. */
  #costOf({ length }: Uint8Array): number {
    const units = 1 + Math.floor(length / FRAME_UNIT_BYTES);
    return Math.min(units * this.#costMs, this.#burstMs);
  }

  #trySpend(frame: Uint8Array, now: Instant): boolean {
    if (this.#isPaidFor(frame)) {
      this.#credit -= 1;
      return true;
    }

    const fullAt = Math.max(this.#fullAt, now) + this.#costOf(frame);
    // A thousandth of a millisecond absorbs the rounding of costs that are no binary fractions.
    if (fullAt > after(now, ms(this.#burstMs)) + 0.001) return false;

    this.#fullAt = instant(fullAt);
    return true;
  }
}
