/** The messages of a leg (`docs/protocol.md` §5), each as the schema that a reader applies. */
import { z } from "zod";
import {
  base64Chain,
  base64Signature,
  channelId,
  closeCode,
  count,
  digest,
  failureCode,
  features,
  instance,
  nonce,
  peerDescription,
  reason,
  relayName,
  revocation,
  serviceName,
  servicePorts,
  sessionId,
  socketAddress,
  software,
  u32,
  weight,
} from "./fields.ts";
import {
  ALTERNATIVES_MAX,
  AVOID_MAX,
  PATHS_PER_SESSION_MAX,
  REVOCATIONS_PER_REGISTER_MAX,
  SERVICE_PARTS_MAX,
  SERVICES_PER_AGENT_MAX,
  SERVICES_PER_CONNECTOR_MAX,
  SERVICES_PER_PART_MAX,
  SESSIONS_PER_REGISTER_MAX,
} from "./limits.ts";

const request = u32;
const leaseMs = u32;
/** Bit a second, 0 = no limit. */
const rate = count;
/** Between the ends of a path, as the relay measured it: a hint for the first congestion window. */
const rttMs = z.exactOptional(u32);

const hello = z.object({
  type: z.literal("hello"),
  instance,
  attempt: u32,
  features,
  nonce,
  software,
});

const welcome = z.object({
  type: z.literal("welcome"),
  relay: relayName,
  epoch: digest,
  features,
  nonce,
  observed: socketAddress,
  limits: z
    .object({
      services: u32,
      sessions: u32,
      channels: u32,
      framesPerSecond: u32,
      framesBurst: u32,
    })
    .readonly(),
  stun: z
    .object({
      username: z.string().regex(/^[0-9a-f]{16}$/),
      password: z.string().regex(/^[0-9a-f]{32}$/),
      addresses: z.array(socketAddress).max(8).readonly(),
    })
    .readonly(),
});

const observed = z.object({ type: z.literal("observed"), address: socketAddress });

const register = z.object({
  type: z.literal("register"),
  request,
  services: z
    .array(z.object({ name: serviceName, ports: servicePorts, weight }).readonly())
    .max(SERVICES_PER_CONNECTOR_MAX)
    .readonly(),
  sessions: z.array(sessionId).max(SESSIONS_PER_REGISTER_MAX).readonly(),
  /** The highest `sequence` that the connector has applied from this relay. */
  revocationsSeen: u32,
});

const registerOk = z.object({
  type: z.literal("register-ok"),
  request,
  accepted: z.array(serviceName).max(SERVICES_PER_CONNECTOR_MAX).readonly(),
  rejected: z
    .array(z.object({ name: serviceName, code: failureCode }).readonly())
    .max(SERVICES_PER_CONNECTOR_MAX)
    .readonly(),
  close: z.array(sessionId).max(SESSIONS_PER_REGISTER_MAX).readonly(),
  revoked: z.array(revocation).max(REVOCATIONS_PER_REGISTER_MAX).readonly(),
});

const serviceList = z
  .array(z.object({ name: serviceName, ports: servicePorts }).readonly())
  .max(SERVICES_PER_PART_MAX)
  .readonly();

/** Either `part`, `last` and `services`, or `added` and `removed`; never a mixture. */
const services = z
  .object({
    type: z.literal("services"),
    generation: u32,
    /** From 0. */
    part: z.exactOptional(
      z
        .int()
        .min(0)
        .max(SERVICE_PARTS_MAX - 1),
    ),
    last: z.exactOptional(z.boolean()),
    services: z.exactOptional(serviceList),
    added: z.exactOptional(serviceList),
    removed: z.exactOptional(z.array(serviceName).max(SERVICES_PER_AGENT_MAX).readonly()),
  })
  .refine(({ part, last, services, added, removed }) => {
    const full = [part, last, services].filter((field) => field !== undefined).length;
    const delta = [added, removed].filter((field) => field !== undefined).length;
    return (full === 3 && delta === 0) || (full === 0 && delta === 2);
  }, "neither a part of a full list nor a change to one");

const sessionOpen = z.object({
  type: z.literal("session-open"),
  request,
  service: serviceName,
  channelId,
  connector: z.exactOptional(instance),
  avoid: z.array(instance).max(AVOID_MAX).readonly(),
  session: z.exactOptional(sessionId),
});

const sessionOpenOk = z.object({
  type: z.literal("session-open-ok"),
  request,
  session: sessionId,
  service: serviceName,
  connector: peerDescription,
  channelId,
  paths: z
    .array(z.object({ relay: relayName, channel: channelId, rate, rttMs }).readonly())
    .max(PATHS_PER_SESSION_MAX)
    .readonly(),
  leaseMs,
});

const sessionOffer = z.object({
  type: z.literal("session-offer"),
  request,
  session: sessionId,
  service: serviceName,
  agent: peerDescription,
  path: z
    .object({
      relay: relayName,
      channel: channelId,
      rate,
      rttMs,
      /** Whether this channel was in force already: its ids are kept. */
      existing: z.boolean(),
    })
    .readonly(),
  leaseMs,
});

const sessionOfferOk = z.object({ type: z.literal("session-offer-ok"), request, channelId });

const sessionRenew = z.object({ type: z.literal("session-renew"), session: sessionId, leaseMs });

const sessionClose = z.object({
  type: z.literal("session-close"),
  session: sessionId,
  code: closeCode,
  reason,
});

const sessionClosed = z.object({
  type: z.literal("session-closed"),
  session: sessionId,
  flows: count,
  bytes: count,
});

const revoked = z.intersection(z.object({ type: z.literal("revoked") }), revocation);

const drain = z.object({
  type: z.literal("drain"),
  deadlineMs: u32,
  alternatives: z.array(relayName).max(ALTERNATIVES_MAX).readonly(),
});

/** On a tunnel as well. */
export const reauthenticate = z
  .object({
    type: z.literal("reauthenticate"),
    request,
    chain: base64Chain,
    signature: base64Signature,
  })
  .readonly();
export const reauthenticateOk = z
  .object({ type: z.literal("reauthenticate-ok"), request })
  .readonly();
/** The answer to any request that is not done. */
export const failed = z
  .object({ type: z.literal("failed"), request, code: failureCode, reason })
  .readonly();

export const LEG_SCHEMAS = {
  hello: hello.readonly(),
  welcome: welcome.readonly(),
  observed: observed.readonly(),
  register: register.readonly(),
  "register-ok": registerOk.readonly(),
  services: services.readonly(),
  "session-open": sessionOpen.readonly(),
  "session-open-ok": sessionOpenOk.readonly(),
  "session-offer": sessionOffer.readonly(),
  "session-offer-ok": sessionOfferOk.readonly(),
  "session-renew": sessionRenew.readonly(),
  "session-close": sessionClose.readonly(),
  "session-closed": sessionClosed.readonly(),
  revoked: revoked.readonly(),
  reauthenticate,
  "reauthenticate-ok": reauthenticateOk,
  drain: drain.readonly(),
  failed,
} as const;
