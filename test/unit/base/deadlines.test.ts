import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Deadline, Deadlines } from "../../../src/base/deadlines.ts";
import { instant } from "../../../src/base/time.ts";

describe("deadlines", () => {
  test("come out in their order, and none before its time", () => {
    const deadlines = new Deadlines<string>();
    deadlines.set(instant(20), "b");
    deadlines.set(instant(10), "a");

    expect(deadlines.earliest()).toBe(instant(10));
    expect(deadlines.popDue(instant(9))).toBeUndefined();
    expect(deadlines.popDue(instant(20))).toBe("a");
    expect(deadlines.popDue(instant(20))).toBe("b");
    expect(deadlines.popDue(instant(99))).toBeUndefined();
  });

  test("that were cancelled never come out, also when cancelled twice or too late", () => {
    const deadlines = new Deadlines<string>();
    const [first] = [deadlines.set(instant(1), "a"), deadlines.set(instant(2), "b")];
    deadlines.cancel(first);
    deadlines.cancel(first);
    deadlines.cancel(undefined);

    expect(deadlines.size).toBe(1);
    expect(deadlines.earliest()).toBe(instant(2));
    expect(deadlines.popDue(instant(9))).toBe("b");
    deadlines.cancel(first);
    expect(deadlines.size).toBe(0);
  });

  test("agree with a sorted list, whatever is set, cancelled and taken", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("set" as const), at: fc.nat(100) }),
      fc.record({ do: fc.constant("cancel" as const), at: fc.nat(400) }),
      fc.record({ do: fc.constant("pop" as const), at: fc.nat(120) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const model = new Model();
        for (const { do: what, at } of steps) model[what](at);
      }),
      { numRuns: 200 },
    );
  });
});

/** The deadlines beside a list that is searched. */
class Model {
  readonly #deadlines = new Deadlines<number>();
  readonly #handles: Deadline[] = [];
  #list: { readonly at: number; readonly id: number }[] = [];

  set(at: number): void {
    this.#list.push({ at, id: this.#handles.length });
    this.#handles.push(this.#deadlines.set(instant(at), this.#handles.length));
    this.#check();
  }

  cancel(id: number): void {
    this.#deadlines.cancel(this.#handles[id]);
    this.#forget(id);
  }

  pop(at: number): void {
    const earliest = Math.min(...this.#list.map((it) => it.at));
    const taken = this.#deadlines.popDue(instant(at));

    expect(taken !== undefined).toBe(earliest <= at);
    if (taken === undefined) return;
    expect(this.#list.find(({ id }) => id === taken)?.at).toBe(earliest);
    this.#forget(taken);
  }

  #forget(gone: number): void {
    this.#list = this.#list.filter(({ id }) => id !== gone);
    this.#check();
  }

  #check(): void {
    expect(this.#deadlines.size).toBe(this.#list.length);
  }
}
