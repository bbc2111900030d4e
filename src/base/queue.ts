/** First in, first out, in constant time: `Array.shift` moves everything behind the head. */
export class Queue<Value> {
  #items: (Value | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** The value that {@link shift} takes next. */
  get first(): Value | undefined {
    return this.#items[this.#head];
  }

  push(value: Value): void {
    this.#items.push(value);
  }

  shift(): Value | undefined {
    const value = this.#items[this.#head];
    if (this.#head === this.#items.length) return undefined;

    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length || this.#head === COMPACT_AT) this.#compact();
    return value;
  }

  #compact(): void {
    this.#items = this.#items.slice(this.#head);
    this.#head = 0;
  }
}

/** Moves the rest once for so many values taken. */
const COMPACT_AT = 4096;
