/** The types of the fields of control messages (`docs/protocol.md` §5), as schemas. */
import { z } from "zod";
import { canonicalSocketAddress, parseHostPort } from "./address.ts";
import { CLOSE_CODE_NAMES } from "./close-codes.ts";
import { FAILURE_CODES } from "./failure-codes.ts";
import {
  CERTIFICATE_BASE64_CHARS_MAX,
  CHAIN_CERTIFICATES_MAX,
  FEATURE_CHARS_MAX,
  FEATURES_MAX,
  ISSUER_HEX_CHARS_MAX,
  PORTS_PER_SERVICE_MAX,
  REASON_CHARS_MAX,
  SERIAL_HEX_CHARS_MAX,
  SERVICE_NAME_CHARS_MAX,
  SIGNATURE_BASE64_CHARS_MAX,
  SOFTWARE_CHARS_MAX,
  U16_MAX,
  U32_MAX,
  WEIGHT_DEFAULT,
  WEIGHT_MAX,
  WEIGHT_MIN,
} from "./limits.ts";
import { plainText } from "./plain-text.ts";
import { canonicalSerial } from "./serial.ts";
import { SERVICE_NAME_PATTERN } from "./service-name.ts";

export const u32 = z.int().min(0).max(U32_MAX);
export const port = z.int().min(1).max(U16_MAX);
/** Of octets and flows: what a double counts without loss. */
export const count = z.int().min(0);

export const instance = z.string().regex(/^[0-9a-f]{32}$/);
export const sessionId = z.string().regex(/^[0-9a-f]{32}$/);
/** The lowest bit tells a channel id from a connection id. */
export const channelId = z.string().regex(/^[0-9a-f]{15}[13579bdf]$/);
export const digest = z.string().regex(/^[0-9a-f]{64}$/);
export const nonce = z.string().regex(/^[0-9a-f]{64}$/);

export const serviceName = z.string().max(SERVICE_NAME_CHARS_MAX).regex(SERVICE_NAME_PATTERN);
/** A peer's URI; `policy/identity.ts` owns its grammar, a message that carries it proves nothing. */
export const identity = z
  .string()
  .max(512)
  .regex(/^[!-~]+$/);
export const features = z
  .array(
    z
      .string()
      .max(FEATURE_CHARS_MAX)
      .regex(/^[!-~]+$/),
  )
  .max(FEATURES_MAX)
  .readonly();
export const software = z
  .string()
  .max(SOFTWARE_CHARS_MAX)
  .regex(/^[ -~]*$/);
export const reason = z.string().max(REASON_CHARS_MAX).overwrite(plainText);
export const failureCode = z.enum(FAILURE_CODES);
export const closeCode = z.enum(CLOSE_CODE_NAMES);

export const socketAddress = z
  .string()
  .max(64)
  .refine((text) => canonicalSocketAddress(text) === text, "not an address in its one spelling");
/** "host:port" of a relay. */
export const relayName = z
  .string()
  .max(262)
  .refine((text) => parseHostPort(text) !== undefined, "not a host and a port");

export const servicePorts = z
  .array(z.object({ protocol: z.enum(["tcp", "udp"]), port }).readonly())
  .max(PORTS_PER_SERVICE_MAX)
  .readonly();
export const weight = z.int().min(WEIGHT_MIN).max(WEIGHT_MAX).default(WEIGHT_DEFAULT);

/** Who the other peer of a session is, by what the relay saw. */
export const peerDescription = z
  .object({ identity, spki: digest, instance, observed: socketAddress })
  .readonly();

/** A key, or one certificate of an issuer. `sequence` numbers the relay's revocations from 1. */
export const revocation = z
  .object({
    sequence: z.exactOptional(u32),
    spki: z.exactOptional(digest),
    issuer: z.exactOptional(
      z
        .string()
        .max(ISSUER_HEX_CHARS_MAX)
        .regex(/^(?:[0-9a-f]{2})+$/),
    ),
    serial: z.exactOptional(
      z
        .string()
        .max(SERIAL_HEX_CHARS_MAX)
        .regex(/^(?:[0-9a-f]{2})+$/)
        .overwrite(canonicalSerial),
    ),
  })
  .refine(
    ({ spki, issuer, serial }) =>
      (issuer === undefined) === (serial === undefined) &&
      (spki === undefined) !== (issuer === undefined),
    "names neither a key nor a certificate, or both",
  )
  .readonly();

export const base64Chain = z
  .array(base64(CERTIFICATE_BASE64_CHARS_MAX))
  .min(1)
  .max(CHAIN_CERTIFICATES_MAX)
  .readonly();
export const base64Signature = base64(SIGNATURE_BASE64_CHARS_MAX);

function base64(charsMax: number) {
  return z
    .string()
    .min(1)
    .max(charsMax)
    .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);
}
