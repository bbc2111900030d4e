/** The messages of a tunnel's stream 0 (`docs/protocol.md` §6), as the schemas that a reader applies. */
import { z } from "zod";
import {
  closeCode,
  features,
  nonce,
  port,
  serviceName,
  servicePorts,
  sessionId,
  socketAddress,
  u32,
} from "./fields.ts";
import { failed, reauthenticate, reauthenticateOk } from "./leg-messages.ts";
import { CANDIDATES_MAX, SPRAY_PORTS_MAX } from "./limits.ts";

const open = z.object({
  type: z.literal("open"),
  request: u32,
  service: serviceName,
  session: sessionId,
  features,
  nonce,
});

const openOk = z.object({
  type: z.literal("open-ok"),
  request: u32,
  features,
  nonce,
  ports: servicePorts,
});

const candidates = z.object({
  type: z.literal("candidates"),
  generation: u32,
  ufrag: z.string().regex(/^[0-9a-f]{16}$/),
  password: z.string().regex(/^[0-9a-f]{32}$/),
  candidates: z
    .array(
      z
        .object({ kind: z.enum(["host", "srflx", "prflx", "mapped"]), address: socketAddress })
        .readonly(),
    )
    .max(CANDIDATES_MAX)
    .readonly(),
});

const spray = z.object({
  type: z.literal("spray"),
  request: u32,
  ports: z.array(port).max(SPRAY_PORTS_MAX).readonly(),
  startInMs: u32,
});

const sprayOk = z.object({ type: z.literal("spray-ok"), request: u32 });

const closeService = z.object({
  type: z.literal("close-service"),
  service: serviceName,
  code: closeCode,
});

export const TUNNEL_SCHEMAS = {
  open: open.readonly(),
  "open-ok": openOk.readonly(),
  candidates: candidates.readonly(),
  spray: spray.readonly(),
  "spray-ok": sprayOk.readonly(),
  "close-service": closeService.readonly(),
  reauthenticate,
  "reauthenticate-ok": reauthenticateOk,
  failed,
} as const;
