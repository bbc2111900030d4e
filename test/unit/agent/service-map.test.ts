import { describe, expect, test } from "bun:test";
import { type Ipv4Network, overlaps, parseIpv4Network } from "../../../src/agent/ipv4-network.ts";
import {
  chooseIpv4Pool,
  describePool,
  ipv6Of,
  ServiceMap,
} from "../../../src/agent/service-map.ts";

describe("virtual addresses", () => {
  test("IPv6 is the prefix and the first 80 bits of SHA-256 of the name", () => {
    const hash = new Bun.CryptoHasher("sha256").update("echo-service").digest("hex");
    const groups = (hash.slice(0, 20).match(/.{4}/g) ?? []).map((it) => Number.parseInt(it, 16));

    const address = ipv6Of("echo-service");

    expect(address.startsWith("fd7a:7a74:6e61:")).toBe(true);
    expect(
      address
        .split(":")
        .slice(3)
        .map((it) => Number.parseInt(it, 16)),
    ).toEqual(groups);
  });

  test("IPv4 is the same for the same name, whatever was asked for before", () => {
    const one = new ServiceMap(POOL, {});
    const other = new ServiceMap(POOL, {});
    other.addressesOf("game");

    expect(other.addressesOf("echo").ipv4).toBe(one.addressesOf("echo").ipv4 ?? "");
  });

  test("a collision takes the next free slot, and a full pool gives nothing", () => {
    const map = new ServiceMap(network("10.100.0.0/29"), {});

    const addresses = ["a", "b", "c", "d", "e"].map((name) => map.addressesOf(name).ipv4);

    expect([...addresses].sort()).toEqual([
      ...["10.100.0.1", "10.100.0.2", "10.100.0.3", "10.100.0.4", "10.100.0.5"],
    ]);
    expect(map.addressesOf("f").ipv4).toBeUndefined();
    expect(map.addressesOf("f").ipv6).toBe(ipv6Of("f"));
  });

  test("the device's own address is the one below broadcast", () => {
    expect(new ServiceMap(POOL, {}).tunAddresses).toEqual([
      ...["10.100.255.254/16", "fd7a:7a74:6e61::1/48"],
    ]);
  });

  test("an address that was given once is kept", () => {
    const map = new ServiceMap(POOL, {}, { echo: "10.100.7.7" });

    expect(map.addressesOf("echo").ipv4).toBe("10.100.7.7");
    expect(map.remembered).toEqual({ echo: "10.100.7.7" });
  });

  test.each([
    { name: "outside the pool", address: "10.101.0.1" },
    { name: "the network's own", address: "10.100.0.0" },
    { name: "the device's own", address: "10.100.255.254" },
    { name: "broadcast", address: "10.100.255.255" },
    { name: "no address", address: "ten" },
  ])("a remembered address that is $name is forgotten", ({ address }) => {
    const map = new ServiceMap(POOL, {}, { echo: address });

    expect(map.addressesOf("echo").ipv4).not.toBe(address);
  });

  test("a pin beats hash and memory, and nobody else gets it", () => {
    const pins = { echo: { ipv4: "10.100.0.1", ipv6: "fd00::1" } };
    const map = new ServiceMap(network("10.100.0.0/29"), pins, { other: "10.100.0.1" });

    expect(map.addressesOf("echo")).toEqual({ ipv4: "10.100.0.1", ipv6: "fd00::1" });
    expect(map.addressesOf("other").ipv4).not.toBe("10.100.0.1");
  });

  test("services that are gone are forgotten once half of the pool is memory", () => {
    const map = new ServiceMap(network("10.100.0.0/29"), {});
    for (const name of ["a", "b", "c", "d"]) map.addressesOf(name);
    map.prune(new Set(["a"]));
    expect(Object.keys(map.remembered)).toHaveLength(4);

    map.addressesOf("e");
    map.prune(new Set(["a"]));

    expect(Object.keys(map.remembered)).toEqual(["a"]);
  });
});

describe("the pool of virtual addresses", () => {
  test("stays where it is while nothing overlaps it", () => {
    expect(describePool(chooseIpv4Pool(POOL, [network("192.168.1.0/24")]))).toBe("10.100.0.0/16");
  });

  test.each([
    { name: "an interface inside it", taken: "10.100.3.0/24" },
    { name: "a route around it", taken: "10.96.0.0/12" },
    { name: "all of 10.0.0.0/8", taken: "10.0.0.0/8" },
  ])("moves out of the way of $name", ({ taken }) => {
    const pool = chooseIpv4Pool(POOL, [network(taken)]);

    expect(pool?.prefix).toBe(16);
    expect(pool !== undefined && overlaps(pool, network(taken))).toBe(false);
  });

  test("there is none when the host routes every private network", () => {
    const taken = ["10.0.0.0/8", "172.16.0.0/12", "198.18.0.0/15"].map(network);

    expect(chooseIpv4Pool(POOL, taken)).toBeUndefined();
  });

  test.each(["10.0.0.0", "10.0.0/8", "10.0.0.256/8", "10.0.0.0/33", "10.0.0.0/8/8", "/8", ""])(
    "%p is no network",
    (text) => {
      expect(parseIpv4Network(text)).toBeUndefined();
    },
  );
});

const POOL = network("10.100.0.0/16");

function network(text: string): Ipv4Network {
  const parsed = parseIpv4Network(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
}
