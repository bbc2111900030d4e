/** Ports for processes that must be told theirs. */
import { createServer } from "node:net";

const given = new Set<number>();

/** Returns a port on loopback that nobody has, for TCP and UDP alike, and never the same twice. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    await new Promise((resolve) => server.close(resolve));
    const port = typeof address === "object" && address !== null ? address.port : 0;
    if (!given.has(port) && (await isFreeForUdp(port))) {
      given.add(port);
      return port;
    }
  }
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
