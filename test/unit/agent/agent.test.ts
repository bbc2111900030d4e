import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startAgent } from "../../../src/agent/agent.ts";
import { agentConfigSchema } from "../../../src/agent/agent-config.ts";
import { requestStatus } from "../../../src/agent/control-client.ts";
import { OperatorError } from "../../../src/base/error.ts";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { encodeControl } from "../../../src/protocol/control-codec.ts";
import type { LegMessage } from "../../../src/protocol/messages.ts";
import type { Command } from "../../../src/transport/endpoint.ts";
import { relayLeaf } from "../../support/client-bench.ts";
import { writeCertificates } from "../../support/issued-certificates.ts";
import { MemoryEndpoint } from "../../support/memory-endpoint.ts";
import { MemoryLogger } from "../../support/memory-logger.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const NOW = new Date("2026-01-01T00:00:00Z");
const UID = process.getuid?.() ?? 0;

let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ztna-agent-"));
  await writeCertificates(directory, "connector", NOW);
  await writeCertificates(directory, "agent", NOW);
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("the agent as a process", () => {
  test("brings up the device and the listeners before it dials", async () => {
    const { endpoint, agent } = await start({ tun: "ztna0", forward: ["8080=echo:80"] });

    const types = endpoint.commands.map(({ type }) => type);
    expect(types.slice(0, 3)).toEqual(["set-tls", "open-tun", "set-services"]);
    expect(types.indexOf("connect-leg")).toBeGreaterThan(2);
    expect(last(endpoint, "open-tun")).toMatchObject({
      addresses: ["10.100.255.254/16", "fd7a:7a74:6e61::1/48"],
    });
    expect(last(endpoint, "set-services")).toMatchObject({
      listeners: [{ bind: "127.0.0.1:8080" }],
    });
    await agent.stop("done");
  });

  test("does not start when a port is taken", async () => {
    const starting = start({}, "set-services");

    await expect(starting).rejects.toBeInstanceOf(OperatorError);
  });

  test("a certificate of another role is an error of the operator", async () => {
    const starting = start({ certificate: file("connector.crt"), key: file("connector.key") });

    await expect(starting).rejects.toMatchObject({ code: "CERTIFICATE_INVALID" });
  });

  test("gives each service that a relay lists its virtual addresses", async () => {
    const { endpoint, agent } = await start();
    expect(agent.notReady()).toContain("192.0.2.1:4433: not connected yet");

    list(endpoint, ["echo"]);

    const { services } = last(endpoint, "set-services") ?? { services: [] };
    expect(services.map(({ name }) => name)).toEqual(["echo"]);
    expect(services[0]?.ipv6).toStartWith("fd7a:7a74:6e61:");
    expect(services[0]?.ipv4).toStartWith("10.100.");
    expect(agent.notReady()).toBeUndefined();
    await agent.stop("done");
  });

  test("answers status on its control socket, with the reason of a refusal", async () => {
    const { endpoint, agent } = await start({ controlSocket: file("agent.sock") });
    list(endpoint, ["echo"]);
    endpoint.emit({ type: "wanted", service: "echo" });
    const failed = {
      type: "failed",
      request: 1,
      code: "no-connector",
      reason: "none there",
    } as const;
    receive(endpoint, failed);

    const status = await requestStatus(file("agent.sock"));

    expect(status).toMatchObject({
      version: 1,
      identity: "ztna://corp.example/agent/one",
      ipv4Pool: "10.100.0.0/16",
      relays: [{ address: "192.0.2.1:4433", state: "connected", observed: "198.51.100.7:5000" }],
      services: [
        {
          ...{ name: "echo", state: "failed", sessions: [], flows: 0, bytesUp: 0, bytesDown: 0 },
          error: { code: "no-connector" },
        },
      ],
      tunnels: [],
    });
    await agent.stop("done");
    await expect(requestStatus(file("agent.sock"))).rejects.toMatchObject({
      code: "AGENT_NOT_RUNNING",
    });
  });

  test("remembers addresses for the next run", async () => {
    const stateDir = file("state");
    const first = await start({ stateDir });
    list(first.endpoint, ["echo"]);
    const address = last(first.endpoint, "set-services")?.services[0]?.ipv4;
    await first.agent.stop("done");

    const kept = JSON.parse(readFileSync(join(stateDir, "agent-state.json"), "utf8"));

    expect(kept).toMatchObject({ version: 1, pool: "10.100.0.0/16", addresses: { echo: address } });
  });

  test("says that its addresses moved out of the way of the host", async () => {
    const { logger, agent } = await start({}, undefined, [{ base: 0x0a_64_00_00, prefix: 24 }]);

    expect(logger.lines).toContainEqual({
      ...{ level: "warn", message: "address pool moved", fields: { detail: "10.101.0.0/16" } },
    });
    await agent.stop("done");
  });

  test("closes with a reason when it is stopped, once", async () => {
    const { endpoint, agent } = await start();

    await agent.stop("SIGTERM");
    await agent.stop("again");

    expect(endpoint.closed).toEqual({ code: CloseCode.SHUTTING_DOWN, reason: "SIGTERM" });
  });

  test("a reload that trusts fewer ends the leg with a relay of another domain", async () => {
    const { endpoint, agent, config } = await start();
    list(endpoint, ["echo"]);
    const ends = () => endpoint.commands.filter(({ type }) => type === "close-connection");

    agent.reload(config);
    const before = ends();
    agent.reload({ ...config, trustDomains: [] });

    expect(before).toEqual([]);
    expect(ends()).toMatchObject([{ code: CloseCode.UNAUTHENTICATED }]);
    await agent.stop("done");
  });

  test("a reload changes listeners, or nothing at all", async () => {
    const { endpoint, agent, config } = await start();
    agent.reload({ ...config, forward: ["9090=web:80"] });
    expect(last(endpoint, "set-services")?.listeners).toMatchObject([{ bind: "127.0.0.1:9090" }]);

    const before = endpoint.commands.length;
    expect(() => agent.reload({ ...config, ca: file("missing.crt") })).toThrow(OperatorError);
    expect(endpoint.commands.length).toBe(before);
    await agent.stop("done");
  });

  test("counts what it does", async () => {
    const { endpoint, agent } = await start();
    list(endpoint, ["echo", "web"]);

    const { role } = await agent.snapshot();

    expect(role).toMatchObject({ ztna_legs: 1, ztna_agent_services: 2, ztna_sessions: 0 });
    await agent.stop("done");
  });
});

async function start(
  change: Record<string, unknown> = {},
  failing?: Command["type"],
  networks: readonly { readonly base: number; readonly prefix: number }[] = [],
) {
  const clock = new VirtualClock();
  const logger = new MemoryLogger();
  const config = agentConfigSchema.parse({
    relays: [{ address: "192.0.2.1:4433", name: "relay.example" }],
    ...{ certificate: file("agent.crt"), key: file("agent.key"), ca: file("ca.crt") },
    trustDomains: ["example"],
    ...change,
  });
  const opened: MemoryEndpoint[] = [];
  const agent = await startAgent(config, {
    openEndpoint: (options, onEvents) => {
      const endpoint = new MemoryEndpoint(options, onEvents, failing);
      opened.push(endpoint);
      return endpoint;
    },
    ...{ clock, logger, wallClock: () => NOW, software: "ztna/test", uid: UID },
    watchTls: () => () => {},
    hostNetworks: () => networks,
  });
  const [endpoint] = opened;
  if (endpoint === undefined) throw new Error("no endpoint");
  return { agent, endpoint, clock, logger, config };
}

/** Plays a relay that welcomes the agent and lists services. */
function list(endpoint: MemoryEndpoint, names: readonly string[]): void {
  const leg = { type: "handshake", kind: "leg", accepted: false, chain: [] } as const;
  endpoint.emit({ ...leg, connection: legOf(endpoint), leaf: relayLeaf() });
  receive(endpoint, {
    ...{ type: "welcome", relay: "relay.example:4433", epoch: "e".repeat(64), features: [] },
    ...{ nonce: "f".repeat(64), observed: "198.51.100.7:5000" },
    limits: { services: 1, sessions: 1, channels: 1, framesPerSecond: 1, framesBurst: 1 },
    stun: { username: "0".repeat(16), password: "0".repeat(32), addresses: [] },
  });
  const services = names.map((name) => ({ name, ports: [] }));
  receive(endpoint, { type: "services", generation: 1, part: 0, last: true, services });
}

function receive(endpoint: MemoryEndpoint, message: LegMessage): void {
  endpoint.emit({
    ...{ type: "control", connection: legOf(endpoint), frame: encodeControl(message) },
  });
}

function legOf(endpoint: MemoryEndpoint): number {
  return last(endpoint, "connect-leg")?.connection ?? -1;
}

function last<Type extends Command["type"]>({ commands }: MemoryEndpoint, type: Type) {
  return commands.findLast((it): it is Extract<Command, { type: Type }> => it.type === type);
}

function file(name: string): string {
  return join(directory, name);
}
