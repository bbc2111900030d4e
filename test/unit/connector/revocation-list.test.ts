import { describe, expect, test } from "bun:test";
import { REVOCATIONS_MAX, RevocationList } from "../../../src/connector/revocation-list.ts";

describe("revocation list", () => {
  test("knows keys and certificates, and each only once", () => {
    const list = new RevocationList();

    expect(list.add(0, { spki: key(1) })).toBe(true);
    expect(list.add(1, { spki: key(1) })).toBe(false);
    expect(list.add(0, { issuer: "30", serial: "01" })).toBe(true);

    expect(list.hasKey(key(1))).toBe(true);
    expect(list.hasLeaf({ spki: key(2), issuer: "30", serial: "01" })).toBe(true);
    expect(list.hasLeaf({ spki: key(2), issuer: "30", serial: "02" })).toBe(false);
    expect(list.all).toHaveLength(2);
  });

  test("remembers the highest sequence of each relay", () => {
    const list = new RevocationList();
    list.add(0, { spki: key(1), sequence: 7 });
    list.add(0, { spki: key(2), sequence: 3 });

    expect(list.seen(0)).toBe(7);
    expect(list.seen(1)).toBe(0);

    list.handleNewEpoch(0);
    expect([list.seen(0), list.hasKey(key(1))]).toEqual([0, true]);
  });

  test("keeps as many as allowed, then forgets the oldest and counts it", () => {
    const list = new RevocationList();
    for (let count = 0; count < REVOCATIONS_MAX; count++) list.add(0, { spki: key(count) });
    expect([list.hasKey(key(0)), list.leftOut]).toEqual([true, 0]);

    list.add(0, { spki: key(REVOCATIONS_MAX) });

    expect([list.hasKey(key(0)), list.leftOut, list.all.length]).toEqual([
      false,
      1,
      REVOCATIONS_MAX,
    ]);
  });
});

function key(number: number): string {
  return number.toString(16).padStart(64, "0");
}
