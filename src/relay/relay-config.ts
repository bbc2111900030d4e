/**
 * The relay's configuration: every key, its default and its bounds.
 *
 * Limits are those of `docs/protocol.md` §8; a relay may lower them, and raise those that are no
 * sizes of the wire.
 */
import { z } from "zod";
import { identityConfigFields } from "../policy/identity-config.ts";
import { parseSocketAddress } from "../protocol/address.ts";
import {
  hostPortField,
  listenAddressField,
  logLevelField,
  metricsField,
} from "../protocol/config-fields.ts";
import {
  AGENT_FRAMES_BURST,
  AGENT_FRAMES_PER_SECOND,
  CHANNELS_PER_AGENT_LEG_MAX,
  CHANNELS_PER_CONNECTOR_LEG_MAX,
  ISSUER_HEX_CHARS_MAX,
  LEGS_PER_IDENTITY_MAX,
  SERIAL_HEX_CHARS_MAX,
  SERVICES_PER_AGENT_MAX,
  SERVICES_PER_CONNECTOR_MAX,
  SESSIONS_PER_AGENT_MAX,
} from "../protocol/limits.ts";
import { canonicalSerial } from "../protocol/serial.ts";

const listenAddress = listenAddressField("0.0.0.0:4433");

const hostPort = hostPortField("relay.example:4433");

const pattern = z.string().min(1).max(512);

const rule = z
  .strictObject({
    /** Named by audit lines. */
    id: z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/, "expected letters, digits and hyphens"),
    effect: z.enum(["allow", "deny"]),
    /** URIs with `*` for any part; any of them matches. */
    identities: z.array(pattern).min(1).max(1024).default(["*"]),
    /** Names with `*` for any part; any of them matches. */
    services: z.array(pattern).min(1).max(1024).default(["*"]),
  })
  .readonly();

const policy = z
  .strictObject({
    /** What holds where no rule matches and the certificate grants the service. */
    default: z.enum(["allow", "deny"]).default("allow"),
    rules: z
      .array(rule)
      .max(10_000)
      .default([])
      .refine(
        (rules) => new Set(rules.map(({ id }) => id)).size === rules.length,
        "expected a different id for each rule",
      ),
  })
  .prefault({});

const revocation = z.union([
  z.strictObject({ spki: z.string().regex(/^[0-9a-f]{64}$/, "expected SHA-256 in hex") }),
  z.strictObject({
    /** DER of the issuer's name. */
    issuer: hexOctets(ISSUER_HEX_CHARS_MAX),
    serial: hexOctets(SERIAL_HEX_CHARS_MAX).overwrite(canonicalSerial),
  }),
]);

const limits = z
  .strictObject({
    servicesPerConnector: upTo(SERVICES_PER_CONNECTOR_MAX),
    servicesPerAgent: upTo(SERVICES_PER_AGENT_MAX),
    sessionsPerAgent: count(SESSIONS_PER_AGENT_MAX),
    channelsPerAgentLeg: count(CHANNELS_PER_AGENT_LEG_MAX),
    channelsPerConnectorLeg: count(CHANNELS_PER_CONNECTOR_LEG_MAX),
    legsPerIdentity: count(LEGS_PER_IDENTITY_MAX),
    /** Of an agent; a connector has ten times as many. */
    framesPerSecond: count(AGENT_FRAMES_PER_SECOND),
    framesBurst: count(AGENT_FRAMES_BURST),
    legs: count(65_536),
    handshakes: count(1024),
    /** First packets answered a second from one IPv4 address, or one /56 of IPv6; twice at once. */
    retriesPerSource: count(20),
  })
  .prefault({});

export const relayConfigSchema = z.strictObject({
  /** Addresses of the UDP sockets, at most one a family. */
  listen: z.array(listenAddress).min(1).max(2).default(["0.0.0.0:4433"]),
  /** PEM files. */
  certificate: z.string().min(1),
  key: z.string().min(1),
  ca: z.string().min(1),
  /** "host:port" by which clients know this relay; by default a name of its certificate. */
  name: hostPort.optional(),
  /** Addresses at which the relay is reached from outside, for address discovery. */
  advertise: z
    .array(
      z
        .string()
        .refine((text) => parseSocketAddress(text) !== undefined, "expected an address and a port"),
    )
    .max(8)
    .default([]),
  ...identityConfigFields,
  policy,
  /** Keys and certificates that are refused although they verify. */
  revoked: z.array(revocation).max(10_000).default([]),
  leaseSeconds: z.int().min(2).max(86_400).default(3600),
  /** Bit a second and channel each way, 0 = no limit. */
  channelRateBps: z.int().min(0).default(0),
  limits,
  /** Where what must last is kept; without it nothing outlives the process. */
  dataDir: z.string().min(1).optional(),
  metrics: metricsField(listenAddress, "127.0.0.1:9090"),
  logLevel: logLevelField,
});

export type RelayConfig = z.output<typeof relayConfigSchema>;

/** As long as a message to connectors may carry it. */
function hexOctets(charsMax: number) {
  return z
    .string()
    .max(charsMax)
    .regex(/^(?:[0-9a-f]{2})+$/, "expected octets in hex");
}

/** A size of the wire: a relay may only lower it. */
function upTo(max: number) {
  return z.int().min(1).max(max).default(max);
}

/** A default that a relay may lower or raise. */
function count(usual: number) {
  return z.int().min(1).max(1_000_000).default(usual);
}
