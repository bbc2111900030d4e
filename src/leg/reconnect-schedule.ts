/**
 * When a lost leg is dialled again: at 0, 0.25, 0.5, 1 and 2 s, then every 2 s ± 25 % for five
 * minutes, then at intervals that double up to 30 s (`docs/protocol.md`, lifetimes).
 *
 * - **Never gives up.** A relay may come back after any time.
 * - **Each attempt is given up when the next is due**, so the schedule is the only time-out.
 * - **Spread after the first two seconds**, so that the peers of a restarted relay do not arrive
 *   together.
 */
import { after, type Duration, type Instant, ms, seconds } from "../base/time.ts";

/** Waits after the first attempts, whose offsets from the loss are 0, 0.25, 0.5, 1 and 2 s. */
const EARLY_WAITS: readonly Duration[] = [ms(250), ms(250), ms(500), seconds(1)];
const STEADY_WAIT: Duration = seconds(2);
const STEADY_FOR: Duration = seconds(300);
const WAIT_MAX: Duration = seconds(30);
const SPREAD = 0.25;

export class ReconnectSchedule {
  readonly #random: () => number;
  #startedAt: Instant;
  #attempts = 0;
  #wait: Duration = STEADY_WAIT;

  /** @param random uniform in [0, 1). */
  constructor(random: () => number, now: Instant) {
    this.#random = random;
    this.#startedAt = now;
  }

  /** Starts over: the attempt that follows is the first. */
  restart(now: Instant): void {
    this.#startedAt = now;
    this.#attempts = 0;
    this.#wait = STEADY_WAIT;
  }

  /** Returns when the attempt after the one that begins at `now` is due. */
  handleAttempt(now: Instant): Instant {
    const early = EARLY_WAITS[this.#attempts];
    this.#attempts += 1;
    return after(now, early ?? this.#lateWait(now));
  }

  #lateWait(now: Instant): Duration {
    if (now - this.#startedAt > STEADY_FOR) this.#wait = ms(Math.min(WAIT_MAX, this.#wait * 2));
    const spread = 1 + SPREAD * (2 * this.#random() - 1);
    return ms(Math.min(WAIT_MAX, Math.round(this.#wait * spread)));
  }
}
