import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AuditFields, Logger } from "../../../src/observability/logger.ts";
import { createAuthority, issue, readAuthority } from "../../../src/pki/authority.ts";
import { profileOf } from "../../../src/pki/certificate-profile.ts";
import type { PeerRole } from "../../../src/policy/identity.ts";
import { decodeLegMessage, encodeControl } from "../../../src/protocol/control-codec.ts";
import { relayConfigSchema } from "../../../src/relay/relay-config.ts";
import { startRelay } from "../../../src/relay/relay-server.ts";
import { STORE_FILE } from "../../../src/relay/relay-store.ts";
import type { Command } from "../../../src/transport/endpoint.ts";
import { MemoryEndpoint } from "../../support/memory-endpoint.ts";
import { agentLeaf, HELLO } from "../../support/relay-bench.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const NOW = new Date("2026-01-01T00:00:00Z");
const ALICE = agentLeaf("alice", ["echo"]);
const HOME = "198.51.100.7:40000";

let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ztna-relay-"));
  await writeCertificates(directory, "relay");
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("the relay as a process", () => {
  test("hands its certificates over before anything else", async () => {
    const { endpoint } = await start();

    expect(endpoint.commands[0]).toMatchObject({ type: "set-tls", revoked: [] });
    expect(endpoint.options).toMatchObject({ role: "relay", listen: ["192.0.2.1:4433"] });
  });

  test("tells the data plane how many strangers it may answer and serve", async () => {
    const { endpoint } = await start({ limits: { legs: 7, handshakes: 5, retriesPerSource: 200 } });

    expect(endpoint.options.limits).toEqual({
      legsMax: 7,
      handshakesMax: 5,
      retriesPerSource: 200,
    });
  });

  test("welcomes a client by the name that its certificate has", async () => {
    const { endpoint } = await start();
    greet(endpoint);

    expect(endpoint.commands).toContainEqual({ type: "admit", connection: 1 });
    const [welcome] = sent(endpoint);
    expect(welcome).toMatchObject({
      type: "welcome",
      relay: "relay.example:4433",
      observed: HOME,
      stun: { addresses: ["192.0.2.1:4433"] },
    });
  });

  test("ends a client's leg with the certificate's life on the machine's clock", async () => {
    const { endpoint } = await start();
    const leaf = { ...ALICE, notAfter: NOW.getTime() / 1000 };

    endpoint.emit({ ...HANDSHAKE, leaf });

    expect(endpoint.commands).toContainEqual({
      type: "close-connection",
      connection: 1,
      code: 2,
      reason: "",
    });
  });

  test("counts and audits what it decides", async () => {
    const { endpoint, relay, audits } = await start();
    greet(endpoint);
    const channelId = "0000000000000001";
    const open = {
      type: "session-open",
      request: 1,
      service: "echo",
      channelId,
      avoid: [],
    } as const;
    endpoint.emit({ type: "control", connection: 1, frame: encodeControl(open) });

    const { role, endpoint: figures } = await relay.snapshot();
    expect(audits).toMatchObject([
      { identity: "ztna://corp.example/agent/alice", service: "echo", decision: "allow" },
    ]);
    expect(role).toMatchObject({ ztna_legs: 1, ztna_sessions_refused_total: 1 });
    expect(figures?.counters).toEqual({ channel_packets: 7 });
  });

  test("closes every leg with SHUTTING_DOWN when it stops", async () => {
    const { endpoint, relay } = await start();

    await relay.stop("SIGTERM");
    await relay.stop("SIGTERM");

    expect(endpoint.closed).toEqual({ code: 4, reason: "SIGTERM" });
    expect(relay.notReady()).toBe("stopping");
  });

  test("says why it cannot go on", async () => {
    const { endpoint, relay } = await start();

    endpoint.emit({ type: "stopped", fatal: "out of memory" });

    expect(await relay.failed).toBe("out of memory");
  });

  test("does not start with a certificate that names no relay", async () => {
    const other = subdirectory();
    await writeCertificates(other, "agent");

    await expect(start({}, other)).rejects.toMatchObject({ code: "CERTIFICATE_INVALID" });
  });

  test("does not start when the data plane refuses its material", async () => {
    await expect(start({}, directory, "set-tls")).rejects.toMatchObject({
      code: "TLS_MATERIAL_INVALID",
    });
  });
});

describe("a reload", () => {
  test("takes over policy and revocations, and hands the certificates over again", async () => {
    const { endpoint, relay } = await start();
    greet(endpoint);
    const revoked = [{ spki: ALICE.spkiSha256 }];

    relay.reload(configOf({ revoked }));
    await Promise.resolve();

    expect(endpoint.commands.filter(isClose)).toMatchObject([{ connection: 1, code: 5 }]);
    expect(endpoint.commands.filter(isTls).at(-1)?.revoked).toEqual([
      { type: "spki", spkiSha256: ALICE.spkiSha256 },
    ]);
    expect((await relay.snapshot()).role.ztna_configuration_reloads_total).toBe(1);
  });

  test("that finds broken files changes nothing", async () => {
    const { endpoint, relay, config } = await start();
    const before = endpoint.commands.length;

    expect(() => relay.reload({ ...config, key: join(directory, "none") })).toThrow("cannot read");
    expect(endpoint.commands).toHaveLength(before);
  });

  test("happens by itself when the files change, and a broken one is told", async () => {
    const { endpoint, watch, lines } = await start();
    watch.onChange();
    expect(endpoint.commands.filter(isTls)).toHaveLength(2);

    const key = join(directory, "relay.key");
    const text = await Bun.file(key).text();
    writeFileSync(key, "nothing");
    watch.onChange();
    writeFileSync(key, text);

    expect(endpoint.commands.filter(isTls)).toHaveLength(2);
    expect(lines).toContain("error: configuration reload refused");
  });
});

describe("what outlives the process", () => {
  test("is the reset key and what was revoked, in a file of its owner alone", async () => {
    const dataDir = subdirectory();
    const first = await start({ dataDir, revoked: [{ spki: ALICE.spkiSha256 }] });
    await first.relay.stop("");
    const second = await start({ dataDir });

    expect(second.endpoint.options.resetKey).toEqual(first.endpoint.options.resetKey);
    expect(second.endpoint.commands.filter(isTls)[0]?.revoked).toHaveLength(1);
    second.endpoint.emit(HANDSHAKE);
    expect(second.endpoint.commands.filter(isClose)).toMatchObject([{ code: 5 }]);
    expect(statSync(join(dataDir, STORE_FILE)).mode & 0o777).toBe(0o600);
  });

  test("is nothing without a directory: each start has a key of its own", async () => {
    const [first, second] = [await start(), await start()];

    expect(second.endpoint.options.resetKey).not.toEqual(first.endpoint.options.resetKey);
    expect(second.endpoint.options.resetKey).toHaveLength(32);
  });

  test("a directory that cannot be used is an error with a hint", async () => {
    const file = join(directory, "relay.crt");

    await expect(start({ dataDir: file })).rejects.toMatchObject({ code: "FILE_UNWRITABLE" });
  });
});

const HANDSHAKE = {
  type: "handshake",
  connection: 1,
  kind: "leg",
  accepted: true,
  remote: HOME,
  leaf: ALICE,
  chain: [],
} as const;

type Tls = Extract<Command, { readonly type: "set-tls" }>;

function isTls(command: Command): command is Tls {
  return command.type === "set-tls";
}

/** Goes with the directory of all. */
function subdirectory(): string {
  return mkdtempSync(join(directory, "sub-"));
}

function isClose({ type }: Command): boolean {
  return type === "close-connection";
}

function greet(endpoint: MemoryEndpoint): void {
  endpoint.emit(HANDSHAKE, { type: "control", connection: 1, frame: encodeControl(HELLO) });
}

function sent(endpoint: MemoryEndpoint) {
  return endpoint.commands.flatMap((command) => {
    if (command.type !== "send-control") return [];
    const decoded = decodeLegMessage(command.frame);
    return decoded.ok ? [decoded.value] : [];
  });
}

function configOf(more: object = {}, where: string = directory) {
  return relayConfigSchema.parse({
    listen: ["192.0.2.1:4433"],
    certificate: join(where, "relay.crt"),
    key: join(where, "relay.key"),
    ca: join(where, "ca.crt"),
    ...more,
  });
}

async function start(more: object = {}, where = directory, failing?: Command["type"]) {
  const config = configOf(more, where);
  const endpoints: MemoryEndpoint[] = [];
  const watch = { onChange: () => {} };
  const { logger, lines, audits } = listeningLogger();
  const relay = await startRelay(config, {
    openEndpoint: (options, onEvents) => {
      const endpoint = new MemoryEndpoint(options, onEvents, failing);
      endpoints.push(endpoint);
      return endpoint;
    },
    clock: new VirtualClock(),
    wallClock: () => NOW,
    logger,
    watchTls: (_, onChange) => {
      watch.onChange = onChange;
      return () => {};
    },
  });
  const [endpoint] = endpoints;
  if (endpoint === undefined) throw new Error("the relay opened an endpoint");
  return { relay, endpoint, config, watch, lines, audits };
}

function listeningLogger() {
  const lines: string[] = [];
  const audits: AuditFields[] = [];
  const at = (level: string) => (message: string) => lines.push(`${level}: ${message}`);
  const logger: Logger = {
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    audit: (fields) => audits.push(fields),
    linesDropped: 0,
    flush: () => Promise.resolve(),
  };
  return { logger, lines, audits };
}

async function writeCertificates(where: string, role: PeerRole): Promise<void> {
  const pair = await createAuthority("corp.example", NOW);
  const services = role === "agent" ? ["echo"] : [];
  const request = { role, name: "one", trustDomain: "corp.example", services, days: 90 };
  const hosts = role === "relay" ? ["relay.example"] : [];
  const profile = profileOf({ ...request, hosts });
  const leaf = await issue(await readAuthority(pair, NOW), profile, NOW);
  writeFileSync(join(where, "ca.crt"), pair.certificatePem);
  writeFileSync(join(where, "relay.crt"), leaf.certificatePem);
  writeFileSync(join(where, "relay.key"), leaf.keyPem);
}
