/** The other end of the agent's control socket, for `ztna status` and `ztna ping`. */
import { OperatorError } from "../base/error.ts";
import { PING_PATH, STATUS_PATH } from "./control-protocol.ts";
import type { PingLine, PingRequest } from "./ping.ts";
import type { AgentStatus } from "./status.ts";

/** @throws OperatorError `AGENT_NOT_RUNNING` when nothing answers there. */
export async function requestStatus(socket: string): Promise<AgentStatus> {
  const response = await ask(socket, STATUS_PATH, { method: "GET" });
  return (await response.json()) as AgentStatus;
}

/**
 * Yields what happens, in order, as it happens.
 *
 * @throws OperatorError `AGENT_NOT_RUNNING` when nothing answers there, `USAGE` when the agent does not
 * take the request.
 */
export async function* requestPing(
  socket: string,
  request: Partial<PingRequest> & Pick<PingRequest, "service">,
): AsyncGenerator<PingLine> {
  const body = JSON.stringify(request);
  const response = await ask(socket, PING_PATH, { method: "POST", body });
  if (!response.ok) {
    const { error } = (await response.json()) as { error?: string };
    throw new OperatorError("USAGE", `the agent does not take the request: ${error}`);
  }

  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as PingLine;
  }
}

async function ask(socket: string, path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(`http://agent${path}`, { ...init, unix: socket });
  } catch (cause) {
    throw new OperatorError("AGENT_NOT_RUNNING", `no agent answers at ${socket}`, {
      cause,
      hint: "Start it with `ztna agent`, or pass --control-socket with its path.",
    });
  }
}
