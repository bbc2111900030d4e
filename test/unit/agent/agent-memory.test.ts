/** What an agent remembers, and where it puts its virtual addresses on this host. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AgentStore } from "../../../src/agent/agent-store.ts";
import { parseRoutes } from "../../../src/agent/host-networks.ts";
import {
  formatIpv4Network,
  type Ipv4Network,
  parseIpv4Network,
} from "../../../src/agent/ipv4-network.ts";
import { describePool } from "../../../src/agent/service-map.ts";
import { restoreServiceMap } from "../../../src/agent/virtual-network.ts";

const MEMORY = { pool: "10.100.0.0/16", addresses: { echo: "10.100.7.7" }, warm: ["echo"] };

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ztna-memory-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("agent store", () => {
  test("keeps what it is given, for its owner only", () => {
    const { store, failures } = open("kept");

    store.save(MEMORY);

    expect(open("kept").store.load()).toMatchObject(MEMORY);
    expect(statSync(fileOf("kept")).mode & 0o777).toBe(0o600);
    expect(failures).toEqual([]);
  });

  test("remembers nothing at first, and says nothing about it", () => {
    const { store, failures } = open("fresh");

    expect(store.load()).toEqual({ addresses: {}, warm: [] });
    expect(failures).toEqual([]);
  });

  test.each([
    { name: "no JSON", text: "{" },
    { name: "of another version", text: '{"version":2,"addresses":{},"warm":[]}' },
    { name: "of another form", text: '{"version":1,"addresses":[],"warm":[]}' },
    { name: "far too large", text: `"${"x".repeat(2_097_152)}"` },
  ])("forgets a file that is $name, and says so", ({ text }) => {
    open("broken").store.save(MEMORY);
    writeFileSync(fileOf("broken"), text);
    const { store, failures } = open("broken");

    expect(store.load()).toEqual({ addresses: {}, warm: [] });
    expect(failures).toHaveLength(1);
  });

  test("a directory that takes nothing costs memory and no more", () => {
    writeFileSync(join(directory, "file"), "");
    const { store, failures } = open("file/inside");

    store.save(MEMORY);

    expect(failures).toHaveLength(1);
  });

  test("writes only what is different", () => {
    const { store } = open("same");
    store.save(MEMORY);
    rmSync(fileOf("same"));

    store.save(MEMORY);
    expect(() => readFileSync(fileOf("same"))).toThrow();
    store.save({ ...MEMORY, warm: [] });
    expect(open("same").store.load().warm).toEqual([]);
  });

  test("without a directory nothing is kept", () => {
    const store = new AgentStore(undefined, () => {});
    store.save(MEMORY);

    expect(store.load().warm).toEqual([]);
  });
});

describe("networks of this host", () => {
  test("are read from the kernel's table, without the default route and the own device", () => {
    const table = [
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
      "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
      "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
      "wg0\t0000640A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0",
      "ztna0\t0000C80A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0",
      "",
    ].join("\n");

    const networks = parseRoutes(table, "ztna0");

    expect(networks.map(formatIpv4Network)).toEqual(["192.168.1.0/24", "10.100.0.0/16"]);
  });

  test("a table that is none is no network", () => {
    expect(parseRoutes("")).toEqual([]);
    expect(parseRoutes("a\nb c d\neth0\tXYZ\t0\t0\t0\t0\t0\tQQ")).toEqual([]);
  });
});

describe("virtual network", () => {
  test("starts where the configuration says, with what was remembered", () => {
    const { map, moved } = restored(MEMORY);

    expect(describePool(map.pool)).toBe("10.100.0.0/16");
    expect(map.addressesOf("echo").ipv4).toBe("10.100.7.7");
    expect(moved).toBe(false);
  });

  test("moves out of the way of the host, and forgets addresses that do not fit", () => {
    const { map, moved } = restored(MEMORY, ["10.100.0.0/24"]);

    expect(moved).toBe(true);
    expect(describePool(map.pool)).toBe("10.101.0.0/16");
    expect(map.addressesOf("echo").ipv4).toStartWith("10.101.");
  });

  test("stays where it moved to once", () => {
    const memory = { pool: "10.101.0.0/16", addresses: { echo: "10.101.7.7" } };

    expect(restored(memory).map.addressesOf("echo").ipv4).toBe("10.101.7.7");
  });

  test("a pool of another size is a wish of the operator and wins", () => {
    const { map } = restored(MEMORY, [], "10.50.0.0/20");

    expect(describePool(map.pool)).toBe("10.50.0.0/20");
  });

  test("asks about every network but those of its own device", () => {
    const asked: (string | undefined)[] = [];
    restoreServiceMap({ ipv4Pool: "10.100.0.0/16", pins: {}, tun: "ztna0" }, MEMORY, (device) => {
      asked.push(device);
      return [];
    });

    expect(asked).toEqual(["ztna0"]);
  });
});

function open(name: string) {
  const failures: string[] = [];
  return { store: new AgentStore(join(directory, name), (it) => failures.push(it)), failures };
}

function fileOf(name: string): string {
  return join(directory, name, "agent-state.json");
}

function restored(
  memory: Parameters<typeof restoreServiceMap>[1],
  taken: readonly string[] = [],
  ipv4Pool = "10.100.0.0/16",
) {
  const networks = taken.map((text) => parseIpv4Network(text) as Ipv4Network);
  return restoreServiceMap({ ipv4Pool, pins: {}, tun: undefined }, memory, () => networks);
}
