/**
 * Many deadlines, of which only the earliest matters: a binary heap.
 *
 * Cancelling is lazy. A cancelled deadline stays in the heap until it surfaces, or until cancelled
 * ones are the majority and are swept out together, so memory stays within twice what is due.
 */
import type { Instant } from "./time.ts";

export interface Deadline {
  readonly at: Instant;
}

interface Entry<Value> extends Deadline {
  readonly value: Value;
  cancelled: boolean;
}

export class Deadlines<Value> {
  #heap: Entry<Value>[] = [];
  readonly #entries = new Map<Deadline, Entry<Value>>();

  /** How many are neither due nor cancelled. */
  get size(): number {
    return this.#entries.size;
  }

  set(at: Instant, value: Value): Deadline {
    const entry: Entry<Value> = { at, value, cancelled: false };
    this.#entries.set(entry, entry);
    this.#heap.push(entry);
    this.#siftUp(this.#heap.length - 1);
    return entry;
  }

  /** Cancelling one that is past, or none, does nothing. */
  cancel(deadline: Deadline | undefined): void {
    if (deadline === undefined) return;
    const entry = this.#entries.get(deadline);
    if (entry === undefined) return;

    entry.cancelled = true;
    this.#entries.delete(deadline);
    if (this.#heap.length > SWEEP_MIN && this.#heap.length > 2 * this.#entries.size) this.#sweep();
  }

  earliest(): Instant | undefined {
    return this.#top()?.at;
  }

  /** Takes the earliest value that is due at `now`, if there is one. */
  popDue(now: Instant): Value | undefined {
    const top = this.#top();
    if (top === undefined || top.at > now) return undefined;

    this.#removeTop();
    this.#entries.delete(top);
    return top.value;
  }

  #top(): Entry<Value> | undefined {
    while (this.#heap[0]?.cancelled === true) this.#removeTop();
    return this.#heap[0];
  }

  #removeTop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#siftDown(0);
  }

  #sweep(): void {
    // A sorted array is a heap.
    this.#heap = [...this.#entries.values()].sort((a, b) => a.at - b.at);
  }

  #siftUp(start: number): void {
    for (let child = start; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (!this.#swapIfLater(parent, child)) return;
      child = parent;
    }
  }

  #siftDown(start: number): void {
    for (let parent = start; ; ) {
      const left = 2 * parent + 1;
      const right = left + 1;
      const child = this.#at(right) < this.#at(left) ? right : left;
      if (!this.#swapIfLater(parent, child)) return;
      parent = child;
    }
  }

  #swapIfLater(parent: number, child: number): boolean {
    const upper = this.#heap[parent];
    const lower = this.#heap[child];
    if (upper === undefined || lower === undefined || upper.at <= lower.at) return false;

    this.#heap[parent] = lower;
    this.#heap[child] = upper;
    return true;
  }

  #at(index: number): number {
    return this.#heap[index]?.at ?? Number.POSITIVE_INFINITY;
  }
}

/** Below this, sweeping costs more than it frees. */
const SWEEP_MIN = 64;
