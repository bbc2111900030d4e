import { describe, expect, test } from "bun:test";
import { agentConfigSchema } from "../../../src/agent/agent-config.ts";
import { parseForward } from "../../../src/agent/forward-spec.ts";
import { listenersOf, packetSourceOf } from "../../../src/agent/listeners.ts";

const LEAST = { relays: ["relay.example:4433"], certificate: "a", key: "b", ca: "c" };

describe("forward", () => {
  test.each([
    { text: "8080=echo-service:80", protocol: "tcp", bind: "127.0.0.1:8080", port: 80 },
    { text: "9999/udp=echo-service:9999", protocol: "udp", bind: "127.0.0.1:9999", port: 9999 },
    { text: "0.0.0.0:53/udp=echo-service:53", protocol: "udp", bind: "0.0.0.0:53", port: 53 },
    { text: "[::1]:80=echo-service:80", protocol: "tcp", bind: "[::1]:80", port: 80 },
  ] as const)("reads $text", ({ text, ...forward }) => {
    expect(parseForward(text)).toEqual({ type: "forward", service: "echo-service", ...forward });
  });

  test.each([
    "8080",
    "8080=echo-service",
    "8080=Echo:80",
    "8080=-x:80",
    "0=echo:80",
    "65536=echo:80",
    "80=echo:65536",
    "8080/icmp=echo:80",
    "localhost:80=echo:80",
    "::1:80=echo:80",
  ])("refuses %p", (text) => {
    expect(parseForward(text)).toBeUndefined();
  });
});

describe("configuration of an agent", () => {
  test("has a default for everything but relay and certificate", () => {
    const config = agentConfigSchema.parse(LEAST);

    expect(config).toMatchObject({
      listen: ["0.0.0.0:0"],
      mtu: 1280,
      ipv4Pool: "10.100.0.0/16",
      forward: [],
      metrics: { listen: "127.0.0.1:9092" },
      limits: { services: 4096, sessions: 256 },
    });
    expect(listenersOf(config)).toEqual([]);
    expect(packetSourceOf(config, [])).toBeUndefined();
  });

  test.each([
    { name: "a relay without a port", change: { relays: ["relay.example"] } },
    { name: "no relay", change: { relays: [] } },
    { name: "two sources of packets", change: { tun: "ztna0", tunFd: 3 } },
    { name: "standard input as a device", change: { tunFd: 2 } },
    { name: "a packet below IPv6's least", change: { mtu: 1279 } },
    { name: "an unknown key", change: { relay: "relay.example:4433" } },
    { name: "a pool too small for its device", change: { ipv4Pool: "10.0.0.0/30" } },
    { name: "a pool of half the world", change: { ipv4Pool: "0.0.0.0/1" } },
    { name: "a pin that is no address", change: { pins: { echo: { ipv4: "ten" } } } },
    {
      name: "an address that two services are pinned to",
      change: { pins: { echo: { ipv6: "fd00::1" }, web: { ipv6: "fd00:0::1" } } },
    },
    { name: "more sessions than the protocol allows", change: { limits: { sessions: 257 } } },
    { name: "more services than the protocol allows", change: { limits: { services: 4097 } } },
    { name: "packets over something else", change: { packets: "tcp:1.2.3.4:5" } },
    { name: "a SOCKS address without a port", change: { socks: "127.0.0.1" } },
  ])("refuses $name", ({ change }) => {
    expect(agentConfigSchema.safeParse({ ...LEAST, ...change }).success).toBe(false);
  });

  test("takes the limits themselves", () => {
    const limits = { sessions: 256, services: 4096 };

    expect(agentConfigSchema.safeParse({ ...LEAST, limits }).success).toBe(true);
  });

  test("listeners come in their order, SOCKS last", () => {
    const config = agentConfigSchema.parse({
      ...LEAST,
      ...{ forward: ["8080=echo:80", "9999/udp=game:9"], socks: "127.0.0.1:1080" },
    });

    expect(listenersOf(config)).toMatchObject([
      { type: "forward", protocol: "tcp", service: "echo" },
      { type: "forward", protocol: "udp", service: "game" },
      { type: "socks", bind: "127.0.0.1:1080" },
    ]);
  });

  test.each([
    {
      name: "a device of its own with the addresses of the pool",
      change: { tun: "ztna0" },
      command: {
        type: "open-tun",
        source: { name: "ztna0" },
        mtu: 1280,
        addresses: ["10.0.0.1/8"],
      },
    },
    {
      name: "an inherited device as its owner configured it",
      change: { tunFd: 7 },
      command: { type: "open-tun", source: { descriptor: 7 }, mtu: 1280, addresses: [] },
    },
    {
      name: "a socket for a shim",
      change: { packets: "unix:/run/p.sock", mtu: 9000 },
      command: { type: "attach-packets", path: "/run/p.sock", mtu: 9000 },
    },
  ])("opens $name", ({ change, command }) => {
    const config = agentConfigSchema.parse({ ...LEAST, ...change });

    expect(packetSourceOf(config, ["10.0.0.1/8"])).toEqual(command as never);
  });
});
