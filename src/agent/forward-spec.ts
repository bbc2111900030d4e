/** A local port that leads to a service: `[ADDRESS:]PORT[/udp]=SERVICE:PORT`. */
import { formatSocketAddress, parseSocketAddress } from "../protocol/address.ts";
import { U16_MAX } from "../protocol/limits.ts";
import { isServiceName } from "../protocol/service-name.ts";

export interface Forward {
  readonly type: "forward";
  readonly protocol: "tcp" | "udp";
  /** "ip:port". */
  readonly bind: string;
  readonly service: string;
  readonly port: number;
}

/** Loopback: a forward on other addresses lends this agent's identity to whoever reaches them. */
const BIND_DEFAULT = "127.0.0.1";

/** Returns the forward, or `undefined` when the text is malformed. */
export function parseForward(text: string): Forward | undefined {
  const match = /^(?:(.+):)?([1-9][0-9]{0,4})(\/udp|\/tcp)?=([a-z0-9-]+):([1-9][0-9]{0,4})$/.exec(
    text,
  );
  if (match === null) return undefined;

  const [, host = BIND_DEFAULT, localPort, protocol, service = "", port] = match;
  const bind = parseSocketAddress(`${host}:${localPort}`);
  if (bind === undefined || !isServiceName(service) || Number(port) > U16_MAX) return undefined;
  return {
    type: "forward",
    protocol: protocol === "/udp" ? "udp" : "tcp",
    bind: formatSocketAddress(bind),
    service,
    port: Number(port),
  };
}
