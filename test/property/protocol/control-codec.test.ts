import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalSocketAddress, formatIp } from "../../../src/protocol/address.ts";
import {
  decodeLegMessage,
  decodeTunnelMessage,
  encodeControl,
} from "../../../src/protocol/control-codec.ts";
import { scanJson } from "../../../src/protocol/json-scan.ts";
import type { LegMessage, TunnelMessage } from "../../../src/protocol/messages.ts";
import { plainText } from "../../../src/protocol/plain-text.ts";
import { runs } from "../../support/property-runs.ts";
import LEG_VECTORS from "../../vectors/control-leg.json" with { type: "json" };
import TUNNEL_VECTORS from "../../vectors/control-tunnel.json" with { type: "json" };

const BODIES = [...LEG_VECTORS, ...TUNNEL_VECTORS].map(({ body }) =>
  new TextEncoder().encode(body),
);

describe("the control codec", () => {
  test("any octets give a result and never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), (body) => {
        expect(decodeLegMessage(body)).toHaveProperty("ok");
        expect(decodeTunnelMessage(body)).toHaveProperty("ok");
      }),
      runs(1000),
    );
  });

  test("a message with octets exchanged, cut or repeated gives a result and never throws", () => {
    fc.assert(
      fc.property(mutatedBody(), (body) => {
        expect(decodeLegMessage(body)).toHaveProperty("ok");
        expect(decodeTunnelMessage(body)).toHaveProperty("ok");
      }),
      runs(2000),
    );
  });

  test("any JSON gives a result and never throws", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 12 }), (text) => {
        expect(decodeLegMessage(new TextEncoder().encode(text))).toHaveProperty("ok");
      }),
      runs(1000),
    );
  });

  test("what was decoded survives the round trip", () => {
    fc.assert(
      fc.property(fc.oneof(mutatedBody(), fc.constantFrom(...BODIES)), (body) => {
        const decoded = decodeLegMessage(body);
        if (!decoded.ok || isOddity(decoded.value)) return;
        expect(decodeLegMessage(encodeControl(decoded.value as LegMessage))).toEqual(decoded);
      }),
      runs(1000),
    );
    fc.assert(
      fc.property(fc.oneof(mutatedBody(), fc.constantFrom(...BODIES)), (body) => {
        const decoded = decodeTunnelMessage(body);
        if (!decoded.ok || isOddity(decoded.value)) return;
        expect(decodeTunnelMessage(encodeControl(decoded.value as TunnelMessage))).toEqual(decoded);
      }),
      runs(1000),
    );
  });

  test("every message made of fields in their bounds survives the round trip", () => {
    fc.assert(
      fc.property(message(), (message) => {
        expect(decodeLegMessage(encodeControl(message))).toEqual({ ok: true, value: message });
      }),
      runs(500),
    );
  });
});

describe("what a peer says in words", () => {
  test("is shown as one line of as many characters, whatever it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const shown = plainText(text);
        expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
        expect([...shown]).toHaveLength([...text].length);
        expect(plainText(shown)).toBe(shown);
      }),
      runs(1000),
    );
  });

  test("is shown as it is when it is plain", () => {
    for (const text of ["", "not now, thank you", "Grüße 🙂 — ١٢", "[2J"]) {
      expect(plainText(text)).toBe(text);
    }
  });
});

describe("the json scan", () => {
  test("takes whatever a writer of JSON writes within the depth", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        expect(scanJson(JSON.stringify(value), 8)).toEqual({ ok: true, value: undefined });
      }),
      runs(1000),
    );
  });

  test("finds a key that an object has twice, wherever it stands", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 }), (object) => {
        const inside = JSON.stringify(object).slice(1, -1);
        const [key] = Object.keys(object);
        const text = `{${inside},${JSON.stringify(key)}:0}`;
        expect(scanJson(text, 64)).toMatchObject({ error: { reason: "duplicate-key" } });
      }),
      runs(1000),
    );
  });
});

describe("addresses", () => {
  test("every address has one spelling, which parses to itself", () => {
    fc.assert(
      fc.property(octets(), fc.integer({ min: 1, max: 65_535 }), (octets, port) => {
        const family = octets.length === 4 ? 4 : 6;
        const ip = formatIp({ family, octets });
        const address = family === 4 ? `${ip}:${port}` : `[${ip}]:${port}`;
        expect(canonicalSocketAddress(address)).toBe(address);
      }),
      runs(1000),
    );
  });

  test("any text gives a result and never throws", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[[0-9a-f:.\]]{0,50}$/), (text) => {
        const canonical = canonicalSocketAddress(text);
        if (canonical !== undefined) expect(canonicalSocketAddress(canonical)).toBe(canonical);
      }),
      runs(2000),
    );
  });
});

function octets(): fc.Arbitrary<number[]> {
  // Zeros are frequent, so that runs of them are.
  const octet = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 }));
  return fc.oneof(
    fc.array(octet, { minLength: 4, maxLength: 4 }),
    fc.array(octet, { minLength: 16, maxLength: 16 }),
  );
}

function mutatedBody(): fc.Arbitrary<Uint8Array> {
  return fc
    .tuple(
      fc.constantFrom(...BODIES),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
      fc.option(fc.nat(), { nil: undefined }),
    )
    .map(([body, changes, cut]) => {
      const mutated = Uint8Array.from(body);
      for (const [at, octet] of changes) mutated[at % mutated.length] = octet;
      return cut === undefined ? mutated : mutated.slice(0, cut % (mutated.length + 1));
    });
}

function message(): fc.Arbitrary<LegMessage> {
  const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const hex = (digits: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`));
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);
  const port = fc.record({
    protocol: fc.constantFrom("tcp" as const, "udp" as const),
    port: fc.integer({ min: 1, max: 65_535 }),
  });
  return fc.oneof(
    fc.record({
      type: fc.constant("session-open" as const),
      request: u32,
      service: name,
      channelId: hex(15).map((digits) => `${digits}1`),
      avoid: fc.array(hex(32), { maxLength: 5 }),
    }),
    fc.record({
      type: fc.constant("register" as const),
      request: u32,
      services: fc.array(
        fc.record({
          name,
          ports: fc.array(port, { maxLength: 5 }),
          weight: fc.integer({ min: 1, max: 1000 }),
        }),
        { maxLength: 10 },
      ),
      sessions: fc.array(hex(32), { maxLength: 5 }),
      revocationsSeen: u32,
    }),
    fc.record({
      type: fc.constant("failed" as const),
      request: u32,
      code: fc.constant("refused" as const),
      // What is not plain is replaced on arrival, and does not come back as it was.
      reason: fc.string({ unit: "grapheme", maxLength: 60 }).map(plainText),
    }),
  );
}

function isOddity({ type }: { readonly type: string }): boolean {
  return ["unknown-request", "invalid-request", "ignored"].includes(type);
}
