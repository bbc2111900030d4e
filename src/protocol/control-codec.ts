/**
 * Octets of a control frame's body ⇄ messages.
 *
 * A body is UTF-8 JSON: one object with a `type`. Whatever else closes the connection with
 * `PROTOCOL_VIOLATION`, and so does a message of this version that is no request and has a wrong
 * field. What a later version may send is not an error: fields that are unknown are left out, and
 * messages that are unknown come out as an {@link Oddity} for the caller to answer or ignore.
 */
import type { z } from "zod";
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { DecodeError } from "./errors.ts";
import { u32 } from "./fields.ts";
import { scanJson } from "./json-scan.ts";
import { LEG_SCHEMAS } from "./leg-messages.ts";
import { CONTROL_FRAME_BYTES_MAX, JSON_DEPTH_MAX } from "./limits.ts";
import type {
  DecodedLegMessage,
  DecodedTunnelMessage,
  LegMessage,
  Oddity,
  TunnelMessage,
} from "./messages.ts";
import { plainText } from "./plain-text.ts";
import { TUNNEL_SCHEMAS } from "./tunnel-messages.ts";

/** @param bytesMax is smaller before a connection is admitted. */
export function decodeLegMessage(
  body: Uint8Array,
  bytesMax: number = CONTROL_FRAME_BYTES_MAX,
): Result<DecodedLegMessage, DecodeError> {
  return decode(body, LEG_TABLE, bytesMax);
}

/** @param bytesMax is smaller before a connection is admitted. */
export function decodeTunnelMessage(
  body: Uint8Array,
  bytesMax: number = CONTROL_FRAME_BYTES_MAX,
): Result<DecodedTunnelMessage, DecodeError> {
  return decode(body, TUNNEL_TABLE, bytesMax);
}

/** Returns the body of a frame. The caller keeps the message within a frame. */
export function encodeControl(message: LegMessage | TunnelMessage): Uint8Array {
  const body = new TextEncoder().encode(JSON.stringify(message));
  assert(body.length <= CONTROL_FRAME_BYTES_MAX, `a ${message.type} fits into a frame`);
  return body;
}

type Schemas = Readonly<Record<string, z.ZodType>>;

interface Table<Message> {
  readonly schemas: ReadonlyMap<string, z.ZodType<Message>>;
}

const LEG_TABLE = table<LegMessage>(LEG_SCHEMAS);
const TUNNEL_TABLE = table<TunnelMessage>(TUNNEL_SCHEMAS);

/** A map, because a type named `constructor` must find nothing. */
function table<Message>(schemas: Schemas & Record<string, z.ZodType<Message>>): Table<Message> {
  return { schemas: new Map(Object.entries(schemas)) };
}

function decode<Message>(
  body: Uint8Array,
  { schemas }: Table<Message>,
  bytesMax: number,
): Result<Message | Oddity, DecodeError> {
  const parsed = parseObject(body, bytesMax);
  if (!parsed.ok) return parsed;

  const { type: name, request } = parsed.value;
  if (typeof name !== "string") return err({ reason: "no-type", detail: "no string named type" });

  const schema = schemas.get(name);
  const number = u32.safeParse(request);
  const isAnswer = name === "failed" || name.endsWith("-ok");
  if (schema === undefined) {
    return number.success && !isAnswer
      ? ok({ type: "unknown-request", request: number.data, name: clip(name) })
      : ok({ type: "ignored", name: clip(name) });
  }

  const message = schema.safeParse(parsed.value);
  if (message.success) return ok(message.data);

  const detail = describe(name, message.error);
  return number.success && !isAnswer && REQUESTS.has(name)
    ? ok({ type: "invalid-request", request: number.data, name, detail })
    : err({ reason: "invalid-value", detail });
}

const REQUESTS: ReadonlySet<string> = new Set<(LegMessage | TunnelMessage)["type"]>([
  "register",
  "session-open",
  "session-offer",
  "reauthenticate",
  "open",
  "spray",
]);

function parseObject(
  body: Uint8Array,
  bytesMax: number,
): Result<Readonly<Record<string, unknown>>, DecodeError> {
  if (body.length > bytesMax) {
    return err({ reason: "too-long", detail: `${body.length} octets, at most ${bytesMax}` });
  }

  const text = decodeUtf8(body);
  if (text === undefined) return err({ reason: "not-utf8", detail: `${body.length} octets` });

  const scan = scanJson(text, JSON_DEPTH_MAX);
  if (!scan.ok) return scan;

  const json = parseJson(text);
  if (json === undefined) return err({ reason: "not-json", detail: clip(text) });
  if (!isObject(json.value)) return err({ reason: "not-an-object", detail: clip(text) });

  return ok(json.value);
}

function decodeUtf8(body: Uint8Array): string | undefined {
  try {
    // A byte order mark is kept, so that the parser refuses it.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return undefined;
  }
}

function parseJson(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(name: string, error: z.ZodError): string {
  const issue = error.issues[0];
  return clip(`${name}.${issue?.path.map(String).join(".") ?? ""}: ${issue?.message ?? ""}`);
}

/** What a peer sent, fit for a line of a log, of `status` or of a terminal. */
function clip(text: string): string {
  return plainText(text.slice(0, DETAIL_CHARS_MAX));
}

const DETAIL_CHARS_MAX = 160;
