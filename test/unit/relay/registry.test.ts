import { describe, expect, test } from "bun:test";
import { MemoryRegistry } from "../../../src/relay/registry.ts";
import { RevocationLog } from "../../../src/relay/revocation-log.ts";

const TCP = { protocol: "tcp", port: 80 } as const;
const UDP = { protocol: "udp", port: 53 } as const;

describe("the registry", () => {
  test("offers the ports of all providers, in an order of its own", () => {
    const registry = new MemoryRegistry();
    registry.set("one", [{ name: "echo", ports: [TCP, UDP], weight: 1 }]);
    registry.set("two", [{ name: "echo", ports: [UDP], weight: 2 }]);

    expect(registry.portsOf("echo")).toEqual([UDP, TCP]);
    expect(registry.providersOf("echo")).toEqual([
      { key: "one", weight: 1 },
      { key: "two", weight: 2 },
    ]);
  });

  test("names what changed for agents and nothing else", () => {
    const registry = new MemoryRegistry();
    const echo = { name: "echo", ports: [TCP], weight: 1 };
    const web = { name: "web", ports: [TCP], weight: 1 };

    expect(registry.set("one", [echo, web])).toEqual(["echo", "web"]);
    expect(registry.set("two", [{ ...echo, weight: 9 }])).toEqual([]);
    expect(registry.set("two", [{ ...echo, ports: [UDP] }])).toEqual(["echo"]);
    expect(registry.remove("one")).toEqual(["echo", "web"]);
    expect(registry.remove("two")).toEqual(["echo"]);
    expect([registry.size, registry.portsOf("echo")]).toEqual([0, undefined]);
  });
});

describe("the log of revocations", () => {
  test("numbers them from where it left off", () => {
    const log = new RevocationLog([{ sequence: 5, spki: "aa" }]);

    expect(log.add({ spki: "bb" })).toEqual({ sequence: 6, spki: "bb" });
    expect(log.add({ spki: "aa" })).toBeUndefined();
    expect(log.add({ issuer: "cc", serial: "01" })?.sequence).toBe(7);
  });

  test("covers a key by its hash and a certificate by issuer and serial number together", () => {
    const log = new RevocationLog([
      { sequence: 1, spki: "aa" },
      { sequence: 2, issuer: "cc", serial: "01" },
    ]);

    expect(log.covers({ spki: "aa", issuer: "x", serial: "y" })).toBe(true);
    expect(log.covers({ spki: "bb", issuer: "cc", serial: "01" })).toBe(true);
    expect(log.covers({ spki: "bb", issuer: "cc", serial: "02" })).toBe(false);
  });

  test("gives everything to a reader that has seen more than there is", () => {
    const entries = [{ sequence: 1, spki: "aa" }];
    const log = new RevocationLog(entries);

    expect(log.after(0)).toEqual(entries);
    expect(log.after(1)).toEqual([]);
    expect(log.after(9)).toEqual(entries);
  });
});
