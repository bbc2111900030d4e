import { describe, expect, test } from "bun:test";
import { isRelayNamed } from "../../../src/policy/relay-name.ts";

const LEAF = {
  dnsNames: ["Relay.example", "*.wild.example"],
  ipAddresses: ["192.0.2.1", "2001:db8:0:0:0:0:0:1"],
};

describe("the name of a relay", () => {
  test.each(["relay.example", "RELAY.EXAMPLE", "192.0.2.1", "2001:db8::1"])(
    "%s is its own",
    (host) => {
      expect(isRelayNamed(LEAF, host)).toBe(true);
    },
  );

  test.each(["", "other.example", "a.wild.example", "relay.example.", "192.0.2.2", "2001:db8::2"])(
    "%p is another's",
    (host) => {
      expect(isRelayNamed(LEAF, host)).toBe(false);
    },
  );

  test("an address in a DNS SAN is no address", () => {
    expect(isRelayNamed({ dnsNames: ["192.0.2.1"], ipAddresses: [] }, "192.0.2.1")).toBe(false);
  });
});
