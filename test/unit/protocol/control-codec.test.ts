import { describe, expect, test } from "bun:test";
import {
  decodeLegMessage,
  decodeTunnelMessage,
  encodeControl,
} from "../../../src/protocol/control-codec.ts";
import {
  CONTROL_FRAME_BYTES_BEFORE_ADMISSION_MAX,
  CONTROL_FRAME_BYTES_MAX,
} from "../../../src/protocol/limits.ts";
import type { LegMessage, TunnelMessage } from "../../../src/protocol/messages.ts";
import LEG_VECTORS from "../../vectors/control-leg.json" with { type: "json" };
import TUNNEL_VECTORS from "../../vectors/control-tunnel.json" with { type: "json" };

interface Vector<Message> {
  readonly name: string;
  readonly body: string;
  readonly message: Message;
}

describe("control messages of a leg", () => {
  test.each(LEG_VECTORS as Vector<LegMessage>[])("have one form: $name", ({ body, message }) => {
    expect(text(encodeControl(message))).toBe(body);
    expect(decodeLegMessage(bytes(body))).toEqual({ ok: true, value: message });
  });

  test("every type has a vector", () => {
    const types = new Set(LEG_VECTORS.map(({ message }) => message.type));

    expect(types.size).toBe(18);
  });
});

describe("control messages of a tunnel", () => {
  test.each(TUNNEL_VECTORS as Vector<TunnelMessage>[])("have one form: $name", (vector) => {
    expect(text(encodeControl(vector.message))).toBe(vector.body);
    expect(decodeTunnelMessage(bytes(vector.body))).toEqual({ ok: true, value: vector.message });
  });

  test("every type has a vector", () => {
    const types = new Set(TUNNEL_VECTORS.map(({ message }) => message.type));

    expect(types.size).toBe(9);
  });
});

describe("a control frame", () => {
  test.each([
    { name: "octets that are no UTF-8", body: [0x7b, 0xff, 0x7d], reason: "not-utf8" },
    { name: "a byte order mark", body: [0xef, 0xbb, 0xbf, 0x7b, 0x7d], reason: "not-json" },
    { name: "nothing", body: [], reason: "not-json" },
  ])("is refused for $name", ({ body, reason }) => {
    expect(decodeLegMessage(new Uint8Array(body))).toMatchObject({ ok: false, error: { reason } });
  });

  test.each([
    { name: "a list", body: "[]", reason: "not-an-object" },
    { name: "a string", body: '"hello"', reason: "not-an-object" },
    { name: "null", body: "null", reason: "not-an-object" },
    { name: "two objects", body: "{}{}", reason: "not-json" },
    { name: "a comma too many", body: '{"type":"observed",}', reason: "not-json" },
    { name: "a cut frame", body: '{"type":"obser', reason: "not-json" },
    { name: "a key twice", body: '{"type":"a","type":"b"}', reason: "duplicate-key" },
    { name: "no type", body: "{}", reason: "no-type" },
    { name: "a type that is a number", body: '{"type":1}', reason: "no-type" },
    { name: "nesting of 9", body: `{"a":${"[".repeat(8)}${"]".repeat(8)}}`, reason: "too-deep" },
  ])("is refused for $name", ({ body, reason }) => {
    expect(decodeLegMessage(bytes(body))).toMatchObject({ ok: false, error: { reason } });
  });

  test.each([
    { name: "text that is not JSON", body: "\u001b[2J" },
    { name: "a list", body: '["\u009b2J","\u202e"]' },
    { name: "a key twice", body: '{"\u001b]0;x\u0007":1,"\u001b]0;x\u0007":1}' },
    { name: "a type of a later version", body: '{"type":"\\u001b[2J"}' },
    { name: "a character cut in two", body: `["${"x".repeat(157)}\u{1f600}"]` },
  ])("never reaches a terminal as more than plain text: $name", ({ body }) => {
    const decoded = decodeLegMessage(bytes(body));

    expect(JSON.stringify(decoded)).toContain("\u{fffd}");
    expect(JSON.stringify(decoded)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}]|\\u/u);
  });

  test("may be nested 8 deep", () => {
    const body = `{"type":"later","a":${"[".repeat(7)}${"]".repeat(7)}}`;

    expect(decodeLegMessage(bytes(body))).toEqual({
      ok: true,
      value: { type: "ignored", name: "later" },
    });
  });

  test.each([
    { name: "65,536 octets", max: CONTROL_FRAME_BYTES_MAX },
    { name: "16,384 octets before admission", max: CONTROL_FRAME_BYTES_BEFORE_ADMISSION_MAX },
  ])("has at most $name", ({ max }) => {
    const frame = (length: number) => bytes('{"type":"later"}'.padEnd(length, " "));

    expect(decodeLegMessage(frame(max), max).ok).toBe(true);
    expect(decodeLegMessage(frame(max + 1), max)).toMatchObject({
      ok: false,
      error: { reason: "too-long" },
    });
  });
});

describe("what a later version may send", () => {
  test.each([
    {
      name: "an unknown request is for the caller to answer",
      body: '{"type":"teleport","request":7,"to":"mars"}',
      value: { type: "unknown-request", request: 7, name: "teleport" },
    },
    {
      name: "an unknown answer is ignored",
      body: '{"type":"teleport-ok","request":7}',
      value: { type: "ignored", name: "teleport-ok" },
    },
    {
      name: "an unknown notice is ignored",
      body: '{"type":"weather"}',
      value: { type: "ignored", name: "weather" },
    },
    {
      name: "a request whose number is none is ignored",
      body: '{"type":"teleport","request":4294967296}',
      value: { type: "ignored", name: "teleport" },
    },
    {
      name: "a type named as what every object has is unknown",
      body: '{"type":"constructor","request":1}',
      value: { type: "unknown-request", request: 1, name: "constructor" },
    },
    {
      name: "unknown fields are left out",
      body: '{"type":"observed","address":"192.0.2.1:1","colour":"red","__proto__":{"x":1}}',
      value: { type: "observed", address: "192.0.2.1:1" },
    },
    {
      name: "a service without a weight has the default",
      body: '{"type":"register","request":1,"services":[{"name":"a","ports":[]}],"sessions":[],"revocationsSeen":0}',
      value: {
        type: "register",
        request: 1,
        services: [{ name: "a", ports: [], weight: 100 }],
        sessions: [],
        revocationsSeen: 0,
      },
    },
  ])("$name", ({ body, value }) => {
    expect(decodeLegMessage(bytes(body))).toEqual({ ok: true, value } as never);
  });

  test("a message of the other kind of connection is unknown", () => {
    const open = '{"type":"open","request":1}';

    expect(decodeLegMessage(bytes(open))).toMatchObject({ value: { type: "unknown-request" } });
    expect(decodeTunnelMessage(bytes('{"type":"hello"}'))).toMatchObject({
      value: { type: "ignored" },
    });
  });
});

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
