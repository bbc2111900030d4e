/**
 * The HTTP listener for machines: `/metrics`, `/healthz` and `/readyz`.
 *
 * It stands on loopback unless the operator says otherwise, and answers only requests whose `Host`
 * is an address, `localhost` or a configured name: a web page that resolves its own name to
 * 127.0.0.1 cannot read it.
 */
import { isIP } from "node:net";
import { OperatorError } from "../base/error.ts";

export interface HealthOptions {
  /** "ip:port"; port 0 lets the system choose. */
  readonly listen: string;
  /** Names beside addresses and `localhost` that a request may carry in `Host`. */
  readonly allowedHosts: readonly string[];
  /** Returns the text format of all metrics. */
  readonly metrics: () => Promise<string>;
  /** Returns why the role is not ready, or `undefined` when it is. */
  readonly notReady: () => string | undefined;
}

export interface HealthServer {
  /** "ip:port" with the port that is in force. */
  readonly address: string;
  stop(): Promise<void>;
}

/** @throws OperatorError when the address cannot be bound. */
export function startHealthServer(options: HealthOptions): HealthServer {
  const { hostname, port } = splitAddress(options.listen);
  try {
    const server = Bun.serve({
      hostname,
      port,
      // Metrics are small and local: whoever cannot read them in 10 s has gone.
      idleTimeout: 10,
      maxRequestBodySize: 1024,
      fetch: (request) => answer(request, options),
      error: () => new Response("internal error\n", { status: 500 }),
    });
    return {
      address: `${isIP(hostname) === 6 ? `[${hostname}]` : hostname}:${server.port}`,
      stop: () => server.stop(true),
    };
  } catch (cause) {
    throw listenError(options.listen, cause);
  }
}

async function answer(request: Request, options: HealthOptions): Promise<Response> {
  if (!isAllowedHost(request.headers.get("host"), options.allowedHosts)) {
    return new Response("unknown host\n", { status: 421 });
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    return new Response("method not allowed\n", { status: 405, headers: { allow: "GET, HEAD" } });
  }

  switch (new URL(request.url).pathname) {
    case "/healthz":
      return new Response("ok");
    case "/readyz": {
      const reason = options.notReady();
      return reason === undefined
        ? new Response("ready")
        : new Response(`not ready: ${reason}\n`, { status: 503 });
    }
    case "/metrics":
      return new Response(await options.metrics(), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      });
    default:
      return new Response("not found\n", { status: 404 });
  }
}

function isAllowedHost(header: string | null, allowed: readonly string[]): boolean {
  if (header === null) return false;
  const name = header.replace(/:\d+$/, "").toLowerCase();
  const literal = name.replace(/^\[(.*)\]$/, "$1");
  return (
    isIP(literal) !== 0 || name === "localhost" || allowed.some((it) => it.toLowerCase() === name)
  );
}

function splitAddress(address: string): { hostname: string; port: number } {
  const colon = address.lastIndexOf(":");
  const hostname = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  const port = Number(address.slice(colon + 1));
  if (colon < 1 || isIP(hostname) === 0 || !/^\d{1,5}$/.test(address.slice(colon + 1))) {
    throw new OperatorError("CONFIG_INVALID", `cannot serve metrics on "${address}"`, {
      hint: "Write an address and a port, for example 127.0.0.1:9090.",
    });
  }
  return { hostname, port };
}

function listenError(address: string, cause: unknown): OperatorError {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  return code === "EADDRINUSE"
    ? new OperatorError("ADDRESS_IN_USE", `cannot serve metrics on ${address}/tcp`, {
        cause,
        hint: "Stop the other process or choose a free port for the metrics.",
      })
    : new OperatorError("ADDRESS_UNAVAILABLE", `cannot serve metrics on ${address}/tcp`, {
        cause,
        hint: "Choose an address of this machine.",
      });
}
