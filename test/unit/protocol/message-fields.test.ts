/** Every bound of a message's fields: what fits, and what is one too much. */
import { describe, expect, test } from "bun:test";
import { decodeLegMessage, decodeTunnelMessage } from "../../../src/protocol/control-codec.ts";
import LEG_VECTORS from "../../vectors/control-leg.json" with { type: "json" };
import TUNNEL_VECTORS from "../../vectors/control-tunnel.json" with { type: "json" };

const ID = "0".repeat(32);
const SERVICE = { name: "a", ports: [] };
const PORT = { protocol: "tcp", port: 80 };

interface Bound {
  readonly name: string;
  readonly of: string;
  readonly field: string;
  readonly most: unknown;
  readonly tooMuch: unknown;
}

const BOUNDS: readonly Bound[] = [
  { name: "a u32", of: "hello", field: "attempt", most: 2 ** 32 - 1, tooMuch: 2 ** 32 },
  {
    name: "features",
    of: "hello",
    field: "features",
    most: times(32, "a"),
    tooMuch: times(33, "a"),
  },
  {
    name: "a feature",
    of: "hello",
    field: "features",
    most: ["a".repeat(64)],
    tooMuch: ["a".repeat(65)],
  },
  {
    name: "software",
    of: "hello",
    field: "software",
    most: "a".repeat(64),
    tooMuch: "a".repeat(65),
  },
  {
    name: "a service name",
    of: "session-open",
    field: "service",
    most: "a".repeat(63),
    tooMuch: "a".repeat(64),
  },
  {
    name: "avoid",
    of: "session-open",
    field: "avoid",
    most: times(64, ID),
    tooMuch: times(65, ID),
  },
  {
    name: "services of a connector",
    of: "register",
    field: "services",
    most: times(256, SERVICE),
    tooMuch: times(257, SERVICE),
  },
  {
    name: "ports of a service",
    of: "register",
    field: "services",
    most: [{ name: "a", ports: times(64, PORT) }],
    tooMuch: [{ name: "a", ports: times(65, PORT) }],
  },
  {
    name: "a port",
    of: "register",
    field: "services",
    most: [{ name: "a", ports: [{ protocol: "tcp", port: 65_535 }] }],
    tooMuch: [{ name: "a", ports: [{ protocol: "tcp", port: 65_536 }] }],
  },
  {
    name: "a weight",
    of: "register",
    field: "services",
    most: [{ ...SERVICE, weight: 1000 }],
    tooMuch: [{ ...SERVICE, weight: 1001 }],
  },
  {
    name: "sessions of a register",
    of: "register",
    field: "sessions",
    most: times(1024, ID),
    tooMuch: times(1025, ID),
  },
  {
    name: "revocations of an answer",
    of: "register-ok",
    field: "revoked",
    most: times(100, { spki: "0".repeat(64) }),
    tooMuch: times(101, { spki: "0".repeat(64) }),
  },
  {
    name: "a reason",
    of: "session-close",
    field: "reason",
    most: "a".repeat(256),
    tooMuch: "a".repeat(257),
  },
  {
    name: "alternatives",
    of: "drain",
    field: "alternatives",
    most: times(16, "a:1"),
    tooMuch: times(17, "a:1"),
  },
  {
    name: "a chain",
    of: "reauthenticate",
    field: "chain",
    most: times(8, "AAAA"),
    tooMuch: times(9, "AAAA"),
  },
  {
    name: "a certificate",
    of: "reauthenticate",
    field: "chain",
    most: ["A".repeat(16_384)],
    tooMuch: ["A".repeat(16_388)],
  },
  {
    name: "a signature",
    of: "reauthenticate",
    field: "signature",
    most: "A".repeat(1368),
    tooMuch: "A".repeat(1372),
  },
  {
    name: "bytes",
    of: "session-closed",
    field: "bytes",
    most: Number.MAX_SAFE_INTEGER,
    tooMuch: 2 ** 53,
  },
  {
    name: "a serial number",
    of: "revoked, by issuer and serial number",
    field: "serial",
    most: "0".repeat(64),
    tooMuch: "0".repeat(66),
  },
  {
    name: "an issuer",
    of: "revoked, by issuer and serial number",
    field: "issuer",
    most: "0".repeat(4096),
    tooMuch: "0".repeat(4098),
  },
  {
    name: "services of a part",
    of: "a part of a full list of services",
    field: "services",
    most: times(200, SERVICE),
    tooMuch: times(201, SERVICE),
  },
  {
    name: "parts of a list",
    of: "a part of a full list of services",
    field: "part",
    most: 4095,
    tooMuch: 4096,
  },
  {
    name: "paths of a session",
    of: "session-open-ok",
    field: "paths",
    most: times(8, path()),
    tooMuch: times(9, path()),
  },
  {
    name: "candidates",
    of: "candidates, none",
    field: "candidates",
    most: times(24, candidate()),
    tooMuch: times(25, candidate()),
  },
  {
    name: "ports of a spray",
    of: "spray",
    field: "ports",
    most: times(1024, 1),
    tooMuch: times(1025, 1),
  },
];

describe("the bounds of messages", () => {
  test.each([...BOUNDS])(
    "$name: the most fits, one more does not",
    ({ of, field, most, tooMuch }) => {
      expect(decode(of, { [field]: most })).toBe("taken");
      expect(decode(of, { [field]: tooMuch })).toBe("refused");
    },
  );

  test.each([
    { name: "a negative attempt", of: "hello", fields: { attempt: -1 } },
    { name: "half an attempt", of: "hello", fields: { attempt: 0.5 } },
    { name: "capitals in an id", of: "hello", fields: { instance: "A".repeat(32) } },
    { name: "a short instance", of: "hello", fields: { instance: "0".repeat(31) } },
    { name: "a nonce of 63 digits", of: "hello", fields: { nonce: "0".repeat(63) } },
    { name: "software with a line break", of: "hello", fields: { software: "a\nb" } },
    { name: "a service name in capitals", of: "session-open", fields: { service: "Echo" } },
    { name: "a service name that ends in a hyphen", of: "session-open", fields: { service: "a-" } },
    { name: "an empty service name", of: "session-open", fields: { service: "" } },
    {
      name: "a connection id in place of a channel id",
      of: "session-open",
      fields: { channelId: "00000000000000a0" },
    },
    { name: "null in place of an absent field", of: "session-open", fields: { connector: null } },
    { name: "weight 0", of: "register", fields: { services: [{ ...SERVICE, weight: 0 }] } },
    {
      name: "port 0",
      of: "register",
      fields: { services: [{ name: "a", ports: [{ protocol: "tcp", port: 0 }] }] },
    },
    {
      name: "another protocol",
      of: "register",
      fields: { services: [{ name: "a", ports: [{ protocol: "sctp", port: 1 }] }] },
    },
    { name: "an address without a port", of: "observed", fields: { address: "192.0.2.1" } },
    {
      name: "an address in another spelling",
      of: "observed",
      fields: { address: "[2001:0db8::1]:5" },
    },
    { name: "a close code that is none", of: "session-close", fields: { code: "BORED" } },
    { name: "a failure code that is none", of: "failed", fields: { code: "bored" } },
    { name: "base64 without its padding", of: "reauthenticate", fields: { signature: "AAE" } },
    { name: "an empty chain", of: "reauthenticate", fields: { chain: [] } },
    { name: "a revocation of nothing", of: "revoked, by key", fields: { spki: undefined } },
    {
      name: "a revocation of two things",
      of: "revoked, by key",
      fields: { issuer: "00", serial: "00" },
    },
    {
      name: "an issuer without a serial number",
      of: "revoked, by issuer and serial number",
      fields: { serial: undefined },
    },
    {
      name: "a part that is a change as well",
      of: "a part of a full list of services",
      fields: { added: [], removed: [] },
    },
    {
      name: "a part that is not numbered",
      of: "a part of a full list of services",
      fields: { part: undefined },
    },
    {
      name: "a change without what was removed",
      of: "a change to the list of services",
      fields: { removed: undefined },
    },
    { name: "a short ufrag", of: "candidates, none", fields: { ufrag: "00" } },
    {
      name: "a relayed candidate",
      of: "candidates, none",
      fields: { candidates: [{ kind: "relayed", address: "192.0.2.1:1" }] },
    },
  ])("refuse $name", ({ of, fields }) => {
    expect(decode(of, fields)).toBe("refused");
  });

  test("a malformed request can be answered, anything else malformed cannot", () => {
    expect(result("session-open", { service: 1 })).toMatchObject({
      ok: true,
      value: { type: "invalid-request", request: 2, name: "session-open" },
    });
    expect(result("session-open", { request: -1 })).toMatchObject({
      ok: false,
      error: { reason: "invalid-value" },
    });
    expect(result("session-open-ok", { service: 1 })).toMatchObject({ ok: false });
    expect(result("failed", { code: 1 })).toMatchObject({ ok: false });
    expect(result("observed", { address: 1 })).toMatchObject({ ok: false });
  });
});

/** Decodes the vector of that name with other fields. */
function result(name: string, fields: object) {
  const leg = LEG_VECTORS.find((vector) => vector.name === name);
  const tunnel = TUNNEL_VECTORS.find((vector) => vector.name === name);
  const message = (leg ?? tunnel)?.message;
  if (message === undefined) throw new Error(`no vector is named ${name}`);

  const body = JSON.stringify({ ...message, ...fields });
  const decodeMessage = leg === undefined ? decodeTunnelMessage : decodeLegMessage;
  return decodeMessage(new TextEncoder().encode(body));
}

function decode(name: string, fields: object): "taken" | "refused" {
  const decoded = result(name, fields);
  return decoded.ok && decoded.value.type !== "invalid-request" ? "taken" : "refused";
}

function times<Value>(count: number, value: Value): Value[] {
  return Array<Value>(count).fill(value);
}

function path() {
  return { relay: "192.0.2.1:1", channel: "0000000000000001", rate: 0 };
}

function candidate() {
  return { kind: "host", address: "10.0.0.1:1" };
}
