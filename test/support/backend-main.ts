/**
 * The services behind the tunnel, as a process of its own so that it can run in any network namespace.
 *
 *   bun test/support/backend-main.ts HOST
 *
 * Prints one line of JSON with the ports, then serves until it is killed:
 *
 * - `http`: `/hello`; `/bytes/N` gives N octets of the pattern; `/digest` answers the length and the
 *   digest of what is sent to it; `/say/WORDS` says the words.
 * - `digest`: TCP; reads until the peer has finished, and only then answers with one line.
 * - `echo`: TCP; sends back what comes. - `udp`: the same for datagrams.
 */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";
import { digestOf, patternStream } from "./pattern.ts";

const [host = "127.0.0.1"] = Bun.argv.slice(2);

const http = Bun.serve({
  hostname: host,
  port: 0,
  maxRequestBodySize: 8 * 1024 ** 3,
  idleTimeout: 0,
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/hello") return new Response("hello from the backend\n");
    if (pathname === "/digest") return Response.json(await digestOf(request.body));
    if (pathname.startsWith("/say/")) return new Response(pathname.slice("/say/".length));
    const [, length] = /^\/bytes\/(\d+)$/.exec(pathname) ?? [];
    if (length === undefined) return new Response("not here\n", { status: 404 });
    return new Response(patternStream(Number(length)), { headers: { "content-length": length } });
  },
});

const digest = createServer({ allowHalfOpen: true }, (socket) => {
  const hash = createHash("sha256");
  let length = 0;
  socket.on("data", (chunk) => {
    hash.update(chunk);
    length += chunk.length;
  });
  socket.on("end", () => socket.end(`${length} ${hash.digest("hex")}\n`));
  socket.on("error", () => socket.destroy());
});

const echo = createServer({ allowHalfOpen: true }, (socket) => {
  socket.pipe(socket);
  socket.on("error", () => socket.destroy());
});

const udp = await Bun.udpSocket({
  hostname: host,
  socket: {
    data(socket, data, port, address) {
      socket.send(data, port, address);
    },
    // A client that has closed its socket is none of the others' business.
    error() {},
  },
});

const ports = {
  http: http.port,
  digest: await listen(digest),
  echo: await listen(echo),
  udp: udp.port,
};
process.stdout.write(`${JSON.stringify(ports)}\n`);

function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });
}
