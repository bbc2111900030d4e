/**
 * The short form of a backend: `[PORT[/udp]=]HOST:PORT`.
 *
 * Without `PORT=` the service has the backend's own port, and port 80 as well: a single web server
 * behind `--backend 127.0.0.1:8080` is what a browser expects at `http://service/`.
 */
import { formatHostPort, parseHostPort } from "../protocol/address.ts";
import { U16_MAX } from "../protocol/limits.ts";

export interface BackendPortSpec {
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  readonly backend: string;
}

const HTTP_PORT = 80;

/** Returns the ports that the text offers, or `undefined` when it is malformed. */
export function parseBackend(text: string): readonly BackendPortSpec[] | undefined {
  const match = /^(?:([1-9][0-9]{0,4})(\/udp|\/tcp)?=)?([^=/]+)$/.exec(text);
  const address = parseHostPort(match?.[3] ?? "");
  if (match === null || address === undefined) return undefined;

  const backend = formatHostPort(address);
  const [, portText, protocolText] = match;
  if (portText === undefined) {
    const ports = new Set([address.port, HTTP_PORT]);
    return [...ports].map((port) => ({ protocol: "tcp", port, backend }));
  }
  const port = Number(portText);
  if (port > U16_MAX) return undefined;
  return [{ protocol: protocolText === "/udp" ? "udp" : "tcp", port, backend }];
}
