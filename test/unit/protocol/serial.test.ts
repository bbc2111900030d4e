import { describe, expect, test } from "bun:test";
import { decodeLegMessage } from "../../../src/protocol/control-codec.ts";
import { canonicalSerial } from "../../../src/protocol/serial.ts";
import { relayConfigSchema } from "../../../src/relay/relay-config.ts";

describe("serial numbers", () => {
  test.each([
    { name: "one without leading zeros", from: "0a1b", to: "0a1b" },
    { name: "the zero octet of a serial whose first bit is set", from: "00ff01", to: "ff01" },
    { name: "many zero octets", from: "00000001", to: "01" },
    { name: "zero itself", from: "00", to: "00" },
    { name: "zero in two octets", from: "0000", to: "00" },
    { name: "zeros inside", from: "100001", to: "100001" },
  ])("$name has one spelling", ({ from, to }) => {
    expect(canonicalSerial(from)).toBe(to);
  });

  test("have it in a relay's configuration and in its messages alike", () => {
    const name = { issuer: "300d310b", serial: "00ff01" };
    const files = { certificate: "c", key: "k", ca: "a" };
    const body = new TextEncoder().encode(
      JSON.stringify({ type: "revoked", sequence: 1, ...name }),
    );

    expect(relayConfigSchema.parse({ ...files, revoked: [name] }).revoked).toEqual([
      { ...name, serial: "ff01" },
    ]);
    expect(decodeLegMessage(body)).toMatchObject({ ok: true, value: { serial: "ff01" } });
  });
});
