/**
 * What was said before: a reason that stays the same is one line, and a sum now and then.
 *
 * Whoever redials every two seconds fails every two seconds for the same reason. The log says so once,
 * and after a while, {@link SUM_AFTER} by default, how often it happened since.
 */
import { type Clock, type Duration, type Instant, seconds } from "../base/time.ts";

export const SUM_AFTER: Duration = seconds(300);

/** A peer chooses its words: more of them than this are forgotten, the oldest first. */
export const REASONS_MAX = 256;

interface Said {
  readonly subject: string;
  at: Instant;
  unsaid: number;
}

export class Repeats {
  readonly #clock: Pick<Clock, "now">;
  readonly #sumAfter: Duration;
  readonly #said = new Map<string, Said>();

  constructor(clock: Pick<Clock, "now">, sumAfter: Duration = SUM_AFTER) {
    this.#clock = clock;
    this.#sumAfter = sumAfter;
  }

  /** Returns how often it happened since it was last said, or `undefined` while that is enough. */
  note(subject: string, reason: string): number | undefined {
    const now = this.#clock.now();
    const key = JSON.stringify([subject, reason]);
    const said = this.#said.get(key);
    if (said === undefined) {
      this.#remember(key, { subject, at: now, unsaid: 0 });
      return 1;
    }

    said.unsaid += 1;
    if (now - said.at < this.#sumAfter) return undefined;
    const count = said.unsaid;
    Object.assign(said, { at: now, unsaid: 0 });
    return count;
  }

  /** What happens to `subject` from here on is news. */
  forget(subject: string): void {
    for (const [key, said] of this.#said) if (said.subject === subject) this.#said.delete(key);
  }

  #remember(key: string, said: Said): void {
    const [oldest] = this.#said.keys();
    if (this.#said.size >= REASONS_MAX && oldest !== undefined) this.#said.delete(oldest);
    this.#said.set(key, said);
  }
}

/** Returns the field that says how often something happened, if it was more than once. */
export function counted(times: number): { readonly count?: number } {
  return times === 1 ? {} : { count: times };
}
