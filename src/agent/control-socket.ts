/**
 * The agent's control socket: `status` and `ping` over HTTP on a Unix socket.
 *
 * - **Only the agent's own user reaches it**: mode 0600, in a directory that belongs to that user.
 * - **A socket that a killed agent left is replaced**; one that answers belongs to a living agent, and
 *   this one does not start.
 * - **A client that leaves ends what it began.**
 */
import { chmodSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { OperatorError } from "../base/error.ts";
import { PING_PATH, pingRequestSchema, STATUS_PATH } from "./control-protocol.ts";
import type { PingLine, PingRequest } from "./ping.ts";
import type { AgentStatus } from "./status.ts";

export interface ControlHandlers {
  readonly status: () => Promise<AgentStatus>;
  /** Returns what cancels the series. */
  readonly ping: (
    request: PingRequest,
    onLine: (line: PingLine) => void,
    onEnd: () => void,
  ) => () => void;
}

export interface ControlSocket {
  readonly path: string;
  close(): Promise<void>;
}

/** Of a request's body: a ping has a hundred. */
const BODY_BYTES_MAX = 4096;

/**
 * A series of pings may be silent for longer than any request of a browser. Bun's types keep this
 * from Unix sockets; its server obeys it there, and does not obey `Server.timeout`.
 */
const NO_IDLE_TIMEOUT: object = { idleTimeout: 0 };

/** @throws OperatorError when the path is taken or not safe to use. */
export async function openControlSocket(
  path: string,
  uid: number,
  handlers: ControlHandlers,
): Promise<ControlSocket> {
  prepareDirectory(dirname(path), uid);
  await removeStale(path);
  const server = serve(path, handlers);
  return {
    path,
    close: async () => {
      await server.stop(true);
      rmSync(path, { force: true });
    },
  };
}

function serve(path: string, handlers: ControlHandlers): Bun.Server<undefined> {
  // The socket must not be reachable by others between its creation and its mode.
  const previous = process.umask(0o177);
  try {
    const server = Bun.serve({
      ...NO_IDLE_TIMEOUT,
      unix: path,
      maxRequestBodySize: BODY_BYTES_MAX,
      fetch: (request) => answer(request, handlers),
    });
    chmodSync(path, 0o600);
    return server;
  } catch (cause) {
    throw new OperatorError("FILE_UNWRITABLE", `cannot open the control socket ${path}`, {
      cause,
      hint: "Set controlSocket to a path of at most 100 characters that this user may write.",
    });
  } finally {
    process.umask(previous);
  }
}

async function answer(request: Request, handlers: ControlHandlers): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === STATUS_PATH && request.method === "GET") {
    return Response.json(await handlers.status());
  }
  if (pathname === PING_PATH && request.method === "POST") return await ping(request, handlers);
  return Response.json({ error: "no such resource" }, { status: 404 });
}

async function ping(request: Request, handlers: ControlHandlers): Promise<Response> {
  const body: unknown = await request.json().catch(() => undefined);
  const parsed = pingRequestSchema.safeParse(body);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const error = `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "malformed"}`;
    return Response.json({ error }, { status: 400 });
  }

  let cancel: () => void = () => {};
  const encoder = new TextEncoder();
  const lines = new ReadableStream<Uint8Array>({
    start: (controller) => {
      let open = true;
      cancel = handlers.ping(
        parsed.data,
        (line) => open && controller.enqueue(encoder.encode(`${JSON.stringify(line)}\n`)),
        () => {
          if (open) controller.close();
          open = false;
        },
      );
    },
    cancel: () => cancel(),
  });
  return new Response(lines, { headers: { "content-type": "application/x-ndjson" } });
}

function prepareDirectory(directory: string, uid: number): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new OperatorError("FILE_UNWRITABLE", `cannot make the directory ${directory}`, {
      cause,
      hint: "Set controlSocket to a path that this user may write.",
    });
  }
  const { uid: owner, mode } = lstatSync(directory);
  // Whoever may rename in the directory could put another socket in the place of this one. The
  // sticky bit forbids that to all but the owner of the socket.
  const othersMayRename = (mode & 0o022) !== 0 && (mode & 0o1000) === 0;
  const isForeign = owner !== uid && owner !== 0;
  if (!othersMayRename && !isForeign) return;

  throw new OperatorError(
    "FILE_UNWRITABLE",
    `the directory ${directory} belongs to user ${owner} with mode ${(mode & 0o7777).toString(8)}`,
    { hint: "Set controlSocket to a path in a directory that only this user may write." },
  );
}

async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new OperatorError("FILE_EXISTS", `${path} is there and no socket`, {
      hint: "Remove it or set controlSocket to another path.",
    });
  }
  if (await isAnswered(path)) {
    throw new OperatorError("ADDRESS_IN_USE", `another agent answers at ${path}`, {
      hint: "Stop it or set controlSocket to another path.",
    });
  }
  rmSync(path, { force: true });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
