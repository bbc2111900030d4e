/** The machine's monotonic clock, for drivers. */
import { type Clock, instant } from "../base/time.ts";

/** Longer waits overflow the timer and would fire at once; the driver then asks again. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => instant(performance.now()),

  schedule(at, fire) {
    const wait = Math.min(Math.max(0, at - performance.now()), TIMEOUT_MS_MAX);
    // Rounded up: a timer that fires a fraction early would find nothing due and spin.
    const timer = setTimeout(fire, Math.ceil(wait));
    return () => clearTimeout(timer);
  },
};
