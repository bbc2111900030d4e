/** What the agent's control socket takes and gives, for both of its ends. */
import { z } from "zod";
import { SERVICE_NAME_CHARS_MAX } from "../protocol/limits.ts";
import { SERVICE_NAME_PATTERN } from "../protocol/service-name.ts";

/** Answers with an `AgentStatus`. */
export const STATUS_PATH = "/v1/status";
/** Takes a {@link pingRequestSchema} and answers with one `PingLine` a line. */
export const PING_PATH = "/v1/ping";

/** As the data plane bounds a series. */
export const pingRequestSchema = z.strictObject({
  service: z.string().max(SERVICE_NAME_CHARS_MAX).regex(SERVICE_NAME_PATTERN),
  count: z.int().min(1).max(10_000).default(4),
  intervalMs: z.int().min(10).max(60_000).default(1000),
  size: z.int().min(0).max(9216).default(56),
});

/** Returns where the agent of this user listens when nobody says otherwise. */
export function defaultControlSocket(
  environment: { readonly XDG_RUNTIME_DIR?: string | undefined },
  uid: number,
): string {
  if (uid === 0) return "/run/ztna/agent.sock";

  const runtime = environment.XDG_RUNTIME_DIR;
  // Under a name of one's own: in /tmp another user may be first with any other.
  return runtime ? `${runtime}/ztna/agent.sock` : `/tmp/ztna-${uid}/agent.sock`;
}
