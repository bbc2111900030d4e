import { describe, expect, test } from "bun:test";
import { REVOCATIONS_MAX, RevocationList } from "../../../src/connector/revocation-list.ts";

describe("revocation list", () => {
  test("knows keys and certificates, and each only once", () => {
    const list = new RevocationList(2);

    expect(list.add(0, { spki: key(1) })).toBe(true);
    expect(list.add(1, { spki: key(1) })).toBe(false);
    expect(list.add(0, { issuer: "30", serial: "01" })).toBe(true);

    expect(list.hasKey(key(1))).toBe(true);
    expect(list.hasLeaf({ spki: key(2), issuer: "30", serial: "01" })).toBe(true);
    expect(list.hasLeaf({ spki: key(2), issuer: "30", serial: "02" })).toBe(false);
    expect(list.all).toHaveLength(2);
  });

  test("remembers the highest sequence of each relay", () => {
    const list = new RevocationList(2);
    list.add(0, { spki: key(1), sequence: 7 });
    list.add(0, { spki: key(2), sequence: 3 });

    expect(list.seen(0)).toBe(7);
    expect(list.seen(1)).toBe(0);

    list.handleNewEpoch(0);
    expect([list.seen(0), list.hasKey(key(1))]).toEqual([0, true]);
  });

  test("keeps as many of a relay as its share, then forgets its oldest and counts it", () => {
    const list = new RevocationList(2);
    for (let count = 0; count < SHARE; count++) list.add(0, { spki: key(count) });
    expect([list.hasKey(key(0)), list.leftOut]).toEqual([true, 0]);

    list.add(0, { spki: key(SHARE) });

    expect([list.hasKey(key(0)), list.leftOut, list.all.length]).toEqual([false, 1, SHARE]);
  });

  test("a relay that invents revocations loses none of another relay's", () => {
    const list = new RevocationList(2);
    list.add(0, { spki: key(1) });
    list.add(1, { spki: key(1) });
    list.add(1, { issuer: "30", serial: "01" });

    for (let count = 2; count <= 2 * SHARE; count++) list.add(0, { spki: key(count) });

    const leaf = { spki: key(0), issuer: "30", serial: "01" };
    expect([list.hasKey(key(1)), list.hasLeaf(leaf)]).toEqual([true, true]);
    expect(list.all.length).toBe(SHARE + 2);
    // Of those that were forgotten the first is known from the other relay.
    expect(list.leftOut).toBe(SHARE - 1);
  });

  test("together the relays keep no more than the maximum", () => {
    const list = new RevocationList(3);
    for (let count = 0; count < REVOCATIONS_MAX; count++) {
      for (let relay = 0; relay < 3; relay++) list.add(relay, { spki: key(3 * count + relay) });
    }

    expect(list.all.length).toBe(3 * Math.floor(REVOCATIONS_MAX / 3));
  });
});

const SHARE = REVOCATIONS_MAX / 2;

function key(number: number): string {
  return number.toString(16).padStart(64, "0");
}
