import { afterEach, describe, expect, test } from "bun:test";
import {
  type HealthOptions,
  type HealthServer,
  startHealthServer,
} from "../../../src/observability/health.ts";

describe("health server", () => {
  test("says ok as long as the process lives", async () => {
    const response = await get("/healthz", { notReady: () => "no relay" });

    expect([response.status, await response.text()]).toEqual([200, "ok"]);
  });

  test("is ready or says why not", async () => {
    const ready = await get("/readyz");
    const waiting = await get("/readyz", { notReady: () => "no relay answers" });

    expect([ready.status, await ready.text()]).toEqual([200, "ready"]);
    expect([waiting.status, await waiting.text()]).toEqual([503, "not ready: no relay answers\n"]);
  });

  test("hands out the metrics as text", async () => {
    const response = await get("/metrics");

    expect(response.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    expect(await response.text()).toBe("ztna_up 1\n");
  });

  test.each([
    { name: "an address", host: "127.0.0.1:9090", status: 200 },
    { name: "an IPv6 address", host: "[::1]:9090", status: 200 },
    { name: "localhost", host: "localhost", status: 200 },
    { name: "a configured name in any case", host: "Metrics.Example:9090", status: 200 },
    { name: "a stranger's name", host: "evil.example:9090", status: 421 },
    { name: "a name that ends like a configured one", host: "x.metrics.example", status: 421 },
  ])("answers a request for $name with $status", async ({ host, status }) => {
    const options = { allowedHosts: ["Metrics.example"] };

    expect((await get("/healthz", options, { headers: { host } })).status).toBe(status);
  });

  test("takes no other method and no other path", async () => {
    expect((await get("/metrics", {}, { method: "POST" })).status).toBe(405);
    expect((await get("/secrets")).status).toBe(404);
  });

  test("a failing snapshot is an error of that request only", async () => {
    const metrics = () => Promise.reject(new Error("the endpoint is closed"));
    const server = start({ metrics });

    const failed = await fetch(`http://${server.address}/metrics`);
    const healthy = await fetch(`http://${server.address}/healthz`);

    expect([failed.status, await failed.text()]).toEqual([500, "internal error\n"]);
    expect(healthy.status).toBe(200);
  });

  test("a port that is taken is the operator's to solve", () => {
    const { address } = start({});

    expect(() => start({ listen: address })).toThrow(
      expect.objectContaining({
        code: "ADDRESS_IN_USE",
        message: `cannot serve metrics on ${address}/tcp`,
      }),
    );
  });

  test.each(["9090", "localhost:9090", ":9090", "127.0.0.1:x", "127.0.0.1:"])(
    "refuses to listen on %p",
    (listen) => {
      expect(() => start({ listen })).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
    },
  );

  test("an address of another machine cannot be bound", () => {
    expect(() => start({ listen: "192.0.2.1:0" })).toThrow(
      expect.objectContaining({ code: "ADDRESS_UNAVAILABLE" }),
    );
  });
});

const servers: HealthServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

function start(options: Partial<HealthOptions>): HealthServer {
  const server = startHealthServer({
    listen: "127.0.0.1:0",
    allowedHosts: [],
    metrics: async () => "ztna_up 1\n",
    notReady: () => undefined,
    ...options,
  });
  servers.push(server);
  return server;
}

function get(path: string, options: Partial<HealthOptions> = {}, init?: RequestInit) {
  return fetch(`http://${start(options).address}${path}`, init);
}
