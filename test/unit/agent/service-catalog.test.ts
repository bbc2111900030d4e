/** What an agent keeps of its relays' lists and of what it used, up to the limits. */
import { describe, expect, test } from "bun:test";
import { ServiceCatalog } from "../../../src/agent/service-catalog.ts";
import { WARM_SERVICES_MAX, WarmServices } from "../../../src/agent/warm-services.ts";
import type { Services } from "../../../src/protocol/messages.ts";

describe("service catalog", () => {
  test("a list takes effect with its last part", () => {
    const catalog = new ServiceCatalog(10);
    catalog.handle(part(1, 0, true, ["old"]));

    expect(catalog.handle(part(2, 0, false, ["a"]))).toBe("incomplete");
    expect(names(catalog)).toEqual(["old"]);
    expect(catalog.handle(part(2, 1, true, ["b"]))).toBe("applied");
    expect(names(catalog)).toEqual(["a", "b"]);
  });

  test("a change adds and removes", () => {
    const catalog = new ServiceCatalog(10);
    catalog.handle(part(1, 0, true, ["a", "b"]));

    expect(catalog.handle(change(2, ["c"], ["a"]))).toBe("applied");
    expect(names(catalog)).toEqual(["b", "c"]);
  });

  test.each([
    { name: "a change before any list", messages: [change(1, ["a"], [])] },
    { name: "a change that skips one", messages: [part(1, 0, true, []), change(3, ["a"], [])] },
    { name: "a change that repeats one", messages: [part(1, 0, true, []), change(1, ["a"], [])] },
    { name: "a list that begins in the middle", messages: [part(1, 1, true, ["a"])] },
    { name: "a part too far", messages: [part(1, 0, false, []), part(1, 2, true, [])] },
    { name: "a part of another list", messages: [part(1, 0, false, []), part(2, 1, true, [])] },
    { name: "a change inside a list", messages: [part(1, 0, false, []), change(2, [], [])] },
  ])("$name is a gap", ({ messages }) => {
    const catalog = new ServiceCatalog(10);

    expect(messages.map((message) => catalog.handle(message)).at(-1)).toBe("gap");
  });

  test("over a new leg nothing of the last one is continued", () => {
    const catalog = new ServiceCatalog(10);
    catalog.handle(part(1, 0, true, ["a"]));

    catalog.handleNewLeg();

    expect(catalog.handle(change(2, ["b"], []))).toBe("gap");
    expect(names(catalog)).toEqual(["a"]);
  });

  test("keeps as many services as allowed and counts the others", () => {
    const catalog = new ServiceCatalog(2);

    catalog.handle(part(1, 0, true, ["a", "b"]));
    expect([names(catalog), catalog.leftOut]).toEqual([["a", "b"], 0]);
    catalog.handle(part(2, 0, true, ["a", "b", "c"]));
    expect([names(catalog), catalog.leftOut]).toEqual([["a", "b"], 1]);
    catalog.handle(change(3, ["d"], ["a"]));
    expect([names(catalog), catalog.leftOut]).toEqual([["b", "d"], 0]);
  });
});

describe("warm services", () => {
  test("are as many as allowed, those used last", () => {
    const warm = new WarmServices([]);
    const all = Array.from({ length: WARM_SERVICES_MAX + 1 }, (_, index) => `s${index}`);

    for (const service of all.slice(0, -1)) expect(warm.touch(service)).toBe(true);
    expect(warm.all).toEqual(all.slice(0, -1));
    expect(warm.touch("s0")).toBe(false);
    warm.touch(`s${WARM_SERVICES_MAX}`);

    expect(warm.has("s0")).toBe(true);
    expect(warm.has("s1")).toBe(false);
    expect(warm.all).toHaveLength(WARM_SERVICES_MAX);
  });

  test("of an earlier run are cut to the newest", () => {
    const all = Array.from({ length: WARM_SERVICES_MAX + 1 }, (_, index) => `s${index}`);

    expect(new WarmServices(all).all).toEqual(all.slice(1));
  });
});

function part(generation: number, index: number, last: boolean, list: readonly string[]): Services {
  const services = list.map((name) => ({ name, ports: [] }));
  return { type: "services", generation, part: index, last, services };
}

function change(generation: number, add: readonly string[], removed: readonly string[]): Services {
  const added = add.map((name) => ({ name, ports: [] }));
  return { type: "services", generation, added, removed };
}

function names(catalog: ServiceCatalog): string[] {
  return [...catalog.services].map(({ name }) => name);
}
