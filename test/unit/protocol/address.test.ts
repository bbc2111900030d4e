import { describe, expect, test } from "bun:test";
import {
  canonicalSocketAddress,
  formatHostPort,
  isDnsName,
  parseHostPort,
  parseIp,
} from "../../../src/protocol/address.ts";

describe("socket addresses", () => {
  test.each([
    { name: "an IPv4 address", text: "192.0.2.1:4433", canonical: "192.0.2.1:4433" },
    { name: "the greatest port", text: "0.0.0.0:65535", canonical: "0.0.0.0:65535" },
    {
      name: "a long IPv6 address",
      text: "[2001:0db8:0:0:0:0:0:1]:5",
      canonical: "[2001:db8::1]:5",
    },
    { name: "capitals", text: "[2001:DB8::A]:5", canonical: "[2001:db8::a]:5" },
    { name: "all zeros", text: "[::]:5", canonical: "[::]:5" },
    {
      name: "one group of zeros",
      text: "[2001:db8:0:1:1:1:1:1]:5",
      canonical: "[2001:db8:0:1:1:1:1:1]:5",
    },
    {
      name: "the first of two equal runs",
      text: "[2001:0:0:1:0:0:1:1]:5",
      canonical: "[2001::1:0:0:1:1]:5",
    },
    {
      name: "the longer of two runs",
      text: "[2001:0:0:1:0:0:0:1]:5",
      canonical: "[2001:0:0:1::1]:5",
    },
    {
      name: "an IPv4-mapped address",
      text: "[::ffff:c000:201]:5",
      canonical: "[::ffff:192.0.2.1]:5",
    },
    { name: "a dotted tail", text: "[64:ff9b::192.0.2.1]:5", canonical: "[64:ff9b::c000:201]:5" },
  ])("have one spelling: $name", ({ text, canonical }) => {
    expect(canonicalSocketAddress(text)).toBe(canonical);
    expect(canonicalSocketAddress(canonical)).toBe(canonical);
  });

  test.each([
    { name: "nothing", text: "" },
    { name: "port 0", text: "192.0.2.1:0" },
    { name: "a port beyond 65535", text: "192.0.2.1:65536" },
    { name: "a port with a leading zero", text: "192.0.2.1:04433" },
    { name: "no port", text: "192.0.2.1" },
    { name: "an octet with a leading zero", text: "192.0.2.01:1" },
    { name: "an octet beyond 255", text: "192.0.2.256:1" },
    { name: "three octets", text: "192.0.2:1" },
    { name: "a name", text: "relay.example:1" },
    { name: "IPv6 without brackets", text: "2001:db8::1:5" },
    { name: "IPv4 in brackets", text: "[192.0.2.1]:5" },
    { name: "a zone", text: "[fe80::1%eth0]:5" },
    { name: "two gaps", text: "[2001::1::2]:5" },
    { name: "a gap for no group", text: "[1:2:3:4::5:6:7:8]:5" },
    { name: "nine groups", text: "[1:2:3:4:5:6:7:8:9]:5" },
    { name: "five digits in a group", text: "[2001:12345::1]:5" },
    { name: "a dotted part in the middle", text: "[::192.0.2.1:1]:5" },
    { name: "a line break at the end", text: "192.0.2.1:1\n" },
  ])("are refused: $name", ({ text }) => {
    expect(canonicalSocketAddress(text)).toBeUndefined();
  });
});

describe("host and port", () => {
  test.each([
    { name: "a name", text: "relay.example:4433", host: "relay.example" },
    { name: "an IPv4 address", text: "192.0.2.1:4433", host: "192.0.2.1" },
    { name: "an IPv6 address", text: "[2001:db8::1]:4433", host: "2001:db8::1" },
  ])("take $name", ({ text, host }) => {
    const parsed = parseHostPort(text);

    expect(parsed).toEqual({ host, port: 4433 });
    expect(formatHostPort({ host, port: 4433 })).toBe(text);
  });

  test.each([
    { name: "an empty host", text: ":4433" },
    { name: "a label that begins with a hyphen", text: "-a.example:1" },
    { name: "an underscore", text: "a_b.example:1" },
    { name: "what is nearly an IPv4 address", text: "192.0.2.300:1" },
    { name: "a URL", text: "https://relay.example:1" },
  ])("refuse $name", ({ text }) => {
    expect(parseHostPort(text)).toBeUndefined();
  });

  test("a DNS name has at most 253 characters", () => {
    const name = (length: number) => `${"a.".repeat(125)}${"b".repeat(length - 250)}`;

    expect(isDnsName(name(253))).toBe(true);
    expect(isDnsName(name(254))).toBe(false);
  });
});

test("an IP address without a port is parsed by its family", () => {
  expect(parseIp("192.0.2.1")?.family).toBe(4);
  expect(parseIp("2001:db8::1")?.family).toBe(6);
  expect(parseIp("relay.example")).toBeUndefined();
});
