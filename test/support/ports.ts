/**
 * Ports for processes that must be told theirs.
 *
 * They are taken from below those that the system gives to outgoing connections: a role that is ended
 * and started again must not find that somebody's connection has its port in the meantime.
 */
import { createServer } from "node:net";

/** Linux's default for the first port that it gives away. */
const END = 32_768;
const START = 12_000;
const given = new Set<number>();

/** Returns a port on loopback that nobody has, for TCP and UDP alike, and never the same twice. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = START + Math.floor(Math.random() * (END - START));
    if (given.has(port)) continue;

    given.add(port);
    if ((await isFreeForTcp(port)) && (await isFreeForUdp(port))) return port;
  }
}

function isFreeForTcp(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

async function isFreeForUdp(port: number): Promise<boolean> {
  try {
    const socket = await Bun.udpSocket({ hostname: "127.0.0.1", port });
    socket.close();
    return true;
  } catch {
    return false;
  }
}
