import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OperatorError } from "../../../src/base/error.ts";
import { seconds } from "../../../src/base/time.ts";
import { startConnector } from "../../../src/connector/connector.ts";
import { connectorConfigSchema } from "../../../src/connector/connector-config.ts";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { encodeControl } from "../../../src/protocol/control-codec.ts";
import type { LegMessage } from "../../../src/protocol/messages.ts";
import type { Command, EndpointEvent } from "../../../src/transport/endpoint.ts";
import { relayLeaf, welcomeMessage } from "../../support/client-bench.ts";
import { writeCertificates } from "../../support/issued-certificates.ts";
import { MemoryEndpoint } from "../../support/memory-endpoint.ts";
import { MemoryLogger } from "../../support/memory-logger.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const NOW = new Date("2026-01-01T00:00:00Z");

let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ztna-connector-"));
  await writeCertificates(directory, "connector", NOW);
  await writeCertificates(directory, "agent", NOW);
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("the connector as a process", () => {
  test("hands over certificates and backends before it dials", async () => {
    const { endpoint } = await start();

    const types = endpoint.commands.map(({ type }) => type);
    expect(types.indexOf("set-tls")).toBe(0);
    expect(types.indexOf("set-backends")).toBeGreaterThan(0);
    expect(types.indexOf("connect-leg")).toBeGreaterThan(types.lastIndexOf("set-tls"));
    expect(find(endpoint, "connect-leg")).toMatchObject({ remote: "192.0.2.1:4433" });
  });

  test("resolves a relay's name for each attempt and walks over its addresses", async () => {
    const { endpoint, clock } = await start({ relays: ["relay.example:4433"] });
    await turn();
    clock.advance(seconds(0.25));
    await turn();

    const dials = endpoint.commands.filter(({ type }) => type === "connect-leg");
    expect(dials).toMatchObject([
      { remote: "192.0.2.1:4433", serverName: "relay.example" },
      { remote: "192.0.2.2:4433", serverName: "relay.example" },
    ]);
  });

  test("an attempt that was given up before its name was resolved is not dialled", async () => {
    const { promise, resolve } = Promise.withResolvers<readonly string[]>();
    const { endpoint, clock } = await start({ relays: ["relay.example:4433"] }, () => promise);
    clock.advance(seconds(0.25));

    resolve(["192.0.2.1"]);
    await turn();

    const dials = endpoint.commands.filter(({ type }) => type === "connect-leg");
    expect(dials).toHaveLength(1);
    expect(endpoint.commands.some(({ type }) => type === "close-connection")).toBe(false);
  });

  test("a name that does not resolve is tried again", async () => {
    const { endpoint, clock, logger } = await start({ relays: ["relay.example:4433"] }, () =>
      Promise.reject(new Error("ENOTFOUND")),
    );
    await turn();
    clock.advance(seconds(3));
    await turn();

    expect(endpoint.commands.some(({ type }) => type === "connect-leg")).toBe(false);
    expect(
      logger.lines.filter(({ message }) => message === "leg dial failed").length,
    ).toBeGreaterThan(1);
  });

  test("a certificate of another role is an error of the operator", async () => {
    const starting = start({ certificate: file("agent.crt"), key: file("agent.key") });

    await expect(starting).rejects.toMatchObject({ code: "CERTIFICATE_INVALID" });
  });

  test("does not start when the data plane refuses what it is given", async () => {
    const starting = start({}, undefined, "set-tls");

    await expect(starting).rejects.toBeInstanceOf(OperatorError);
    await expect(starting).rejects.toMatchObject({ code: "TLS_MATERIAL_INVALID" });
  });

  test("closes with a reason when it is stopped, once", async () => {
    const { endpoint, connector } = await start();

    await connector.stop("SIGTERM");
    await connector.stop("again");

    expect(endpoint.closed).toEqual({ code: CloseCode.SHUTTING_DOWN, reason: "SIGTERM" });
    expect(connector.notReady()).toBe("stopping");
  });

  test("counts as many flows to backends as the data plane tells of", async () => {
    const { endpoint, connector } = await start();
    const flow = { type: "flow", tunnel: 1, service: "echo" } as const;
    const sums = { count: 3, bytesUp: 0, bytesDown: 0 };

    endpoint.emit({ ...flow, ...sums, kind: "tcp", change: "opened" });
    endpoint.emit({ ...flow, ...sums, kind: "tcp", change: "opened" });
    endpoint.emit({ ...flow, ...sums, kind: "tcp", change: "refused", code: 2 });
    endpoint.emit({ ...flow, ...sums, kind: "tcp", change: "closed" });
    endpoint.emit({ ...flow, ...sums, kind: "udp", change: "opened" });

    const { role } = await connector.snapshot();
    expect(role).toMatchObject({
      ztna_connector_tcp_sessions_total: 6,
      ztna_connector_tcp_errors_total: 3,
    });
  });

  test("a data plane that stopped ends it", async () => {
    const { endpoint, connector } = await start();

    endpoint.emit({ type: "stopped", fatal: "a bug" });

    expect(await connector.failed).toBe("a bug");
  });

  test("a reload that cannot be done changes nothing", async () => {
    const { endpoint, connector, config } = await start();
    const before = endpoint.commands.length;

    expect(() => connector.reload({ ...config, certificate: file("missing.crt") })).toThrow(
      OperatorError,
    );
    expect(endpoint.commands.length).toBe(before);
  });

  test("a reload brings other services", async () => {
    const { endpoint, connector, config } = await start();

    connector.reload({ ...config, service: "game", backend: "9=127.0.0.1:9" });

    const latest = endpoint.commands.filter(({ type }) => type === "set-backends").at(-1);
    expect(latest).toMatchObject({ services: [{ name: "game" }] });
  });

  test("revocations that come together reach the data plane together", async () => {
    const { endpoint } = await start({ trustDomains: ["example"] });
    welcome(endpoint);
    const before = endpoint.commands.length;

    const keys = ["1", "2", "3"].map((digit) => digit.repeat(64));
    endpoint.emit(...keys.map((spki) => fromRelay(endpoint, { type: "revoked", spki })));
    await turn();

    const revoked = keys.map((spkiSha256) => ({ type: "spki", spkiSha256 }));
    const caused = endpoint.commands.slice(before).filter(({ type }) => type === "set-tls");
    expect(caused).toMatchObject([{ revoked }]);
  });

  test("a reload that trusts fewer ends the leg with a relay of another domain", async () => {
    const { endpoint, connector, config } = await start({ trustDomains: ["example"] });
    welcome(endpoint);
    const ends = () => endpoint.commands.filter(({ type }) => type === "close-connection");

    connector.reload(config);
    const before = ends();
    connector.reload({ ...config, trustDomains: [] });

    expect(before).toEqual([]);
    expect(ends()).toMatchObject([{ code: CloseCode.UNAUTHENTICATED }]);
  });

  test("says why it is not ready, and counts", async () => {
    const { connector } = await start();

    expect(connector.notReady()).toContain("192.0.2.1:4433: not registered yet");
    expect((await connector.snapshot()).role).toMatchObject({ ztna_legs: 0, ztna_sessions: 0 });
  });
});

async function start(
  change: Record<string, unknown> = {},
  resolveHost: (host: string) => Promise<readonly string[]> = () =>
    Promise.resolve(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
  failing?: Command["type"],
) {
  const clock = new VirtualClock();
  const logger = new MemoryLogger();
  const config = connectorConfigSchema.parse({
    ...{ relays: ["192.0.2.1:4433"], service: "echo", backend: "127.0.0.1:8080" },
    ...{ certificate: file("connector.crt"), key: file("connector.key"), ca: file("ca.crt") },
    ...change,
  });
  const opened: MemoryEndpoint[] = [];
  const connector = await startConnector(config, {
    openEndpoint: (options, onEvents) => {
      const endpoint = new MemoryEndpoint(options, onEvents, failing);
      opened.push(endpoint);
      return endpoint;
    },
    ...{ clock, logger, resolveHost, wallClock: () => NOW, software: "ztna/test" },
    watchTls: () => () => {},
    takesConnections: () => Promise.resolve(true),
  });
  const [endpoint] = opened;
  if (endpoint === undefined) throw new Error("no endpoint");
  return { connector, endpoint, clock, logger, config };
}

/** Greets the connector as its relay. */
function welcome(endpoint: MemoryEndpoint): void {
  const leaf = relayLeaf({ ipAddresses: ["192.0.2.1"] });
  const leg = { type: "handshake", kind: "leg", accepted: false, chain: [] } as const;
  endpoint.emit({ ...leg, connection: find(endpoint, "connect-leg")?.connection ?? -1, leaf });
  endpoint.emit(fromRelay(endpoint, welcomeMessage()));
}

function fromRelay(endpoint: MemoryEndpoint, message: LegMessage): EndpointEvent {
  const connection = find(endpoint, "connect-leg")?.connection ?? -1;
  return { type: "control", connection, frame: encodeControl(message) };
}

function find<Type extends Command["type"]>({ commands }: MemoryEndpoint, type: Type) {
  return commands.find((it): it is Extract<Command, { type: Type }> => it.type === type);
}

function file(name: string): string {
  return join(directory, name);
}

async function turn(): Promise<void> {
  for (let count = 0; count < 20; count++) await Promise.resolve();
}
