/** Backends that serve nobody: each in its own way. */
import { dlopen, ptr } from "bun:ffi";
import { createServer } from "node:net";
import { freePort } from "./ports.ts";
import { TcpClient } from "./tcp-client.ts";

export interface BadBackends {
  /** Nobody listens. */
  readonly refuses: number;
  /** Its queue is full and nobody accepts: a SYN is never answered. */
  readonly hangs: number;
  /** Accepts, and resets at the first octet. */
  readonly resets: number;
  /** Accepts, and never reads. */
  readonly neverReads: number;
  close(): void;
}

export async function startBadBackends(): Promise<BadBackends> {
  const resetting = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.resetAndDestroy());
  });
  const deaf = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on("error", () => undefined);
  });
  const full = await openFullQueue();
  const [refuses, resets, neverReads] = [await freePort(), await freePort(), await freePort()];
  await Promise.all([listen(resetting, resets), listen(deaf, neverReads)]);
  return {
    ...{ refuses, resets, neverReads, hangs: full.port },
    close: () => {
      resetting.close();
      deaf.close();
      full.close();
    },
  };
}

function listen(server: ReturnType<typeof createServer>, port: number): Promise<void> {
  return new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
}

/** Listens with a queue of one that nobody takes from, and fills it. */
async function openFullQueue(): Promise<{ port: number; close: () => void }> {
  const port = await freePort();
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    listen: { args: ["i32", "i32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
  });
  const descriptor = symbols.socket(AF_INET, SOCK_STREAM, 0);
  const address = Buffer.from([AF_INET, 0, port >> 8, port & 0xff, 127, 0, 0, 1, ...ZEROS]);
  if (symbols.bind(descriptor, ptr(address), address.length) !== 0) throw new Error("bind");
  if (symbols.listen(descriptor, 0) !== 0) throw new Error("listen");
  const first = await TcpClient.open("127.0.0.1", port);
  return {
    port,
    close: () => {
      first.close();
      symbols.close(descriptor);
    },
  };
}

const AF_INET = 2;
const SOCK_STREAM = 1;
const ZEROS = [0, 0, 0, 0, 0, 0, 0, 0];
