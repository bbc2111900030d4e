import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RoleName } from "../../../src/cli/role-flags.ts";
import { run } from "../../../src/cli/run.ts";
import type { OpenEndpoint } from "../../../src/transport/endpoint.ts";
import { MemoryConsole } from "../../support/memory-console.ts";
import { MemoryEndpoint } from "../../support/memory-endpoint.ts";

describe.each(["relay", "connector", "agent"] as const)("ztna %s", (role) => {
  test("runs until SIGTERM, answers for its health, and closes with a reason", async () => {
    const process = start(role);
    const metrics = await process.metricsAddress();

    const health = await fetch(`http://${metrics}/healthz`);
    const text = await (await fetch(`http://${metrics}/metrics`)).text();
    signal("SIGTERM");

    expect(await process.exitCode).toBe(0);
    expect(await health.text()).toBe("ok");
    expect(text).toMatch(
      new RegExp(`^ztna_build_info\\{role="${role}",version="[^"]+"\\} 1$`, "m"),
    );
    expect(text).toMatch(/^ztna_certificate_not_after_seconds 1\d{9}$/m);
    expect(process.endpoint().closed).toEqual({ code: 4, reason: "SIGTERM" });
    expect(process.messages()).toContain("role started");
    expect(process.messages().at(-1)).toBe("role stopped");
    await expect(fetch(`http://${metrics}/healthz`)).rejects.toThrow();
  });

  test("SIGHUP takes over certificates that fit together and refuses others", async () => {
    const process = start(role);
    await process.metricsAddress();
    const materials = () =>
      process.endpoint().commands.filter(({ type }) => type === "set-tls").length;
    const before = materials();

    signal("SIGHUP");
    await process.says("configuration reloaded");
    const reloaded = materials();
    copyFileSync(at("other.key"), at(`${role}.key`));
    signal("SIGHUP");
    await process.says("configuration reload refused");
    const refused = materials();
    signal("SIGTERM");
    await process.exitCode;

    expect([reloaded, refused]).toEqual([before + 1, before + 1]);
    expect(process.line("configuration reload refused")).toMatchObject({ code: "KEY_MISMATCH" });
  });

  test("ends with 1 when its data plane dies", async () => {
    const process = start(role);
    await process.metricsAddress();

    process.endpoint().emit({ type: "stopped", fatal: "the thread panicked" });

    expect(await process.exitCode).toBe(1);
    expect(process.line("data plane died")).toMatchObject({ detail: "the thread panicked" });
  });

  test("a port for metrics that is taken closes what was opened", async () => {
    const first = start(role);
    const metrics = await first.metricsAddress();

    const second = start(role, "--metrics", metrics, ...otherControlSocket(role));

    expect(await second.exitCode).toBe(3);
    expect(second.stderr()).toStartWith(
      `error[ADDRESS_IN_USE]: cannot serve metrics on ${metrics}`,
    );
    expect(second.endpoint().closed).toEqual({ code: 4, reason: "start failed" });
    signal("SIGTERM");
    expect(await first.exitCode).toBe(0);
  });

  test("without metrics it listens nowhere", async () => {
    const process = start(role, "--metrics", "off");
    await process.says("role started");
    signal("SIGINT");

    expect(await process.exitCode).toBe(0);
    expect(process.messages()).not.toContain("metrics listening");
  });

  test("a certificate of another role does not start it", async () => {
    copyFileSync(at("other.crt"), at(`${role}.crt`));
    copyFileSync(at("other.key"), at(`${role}.key`));

    const process = start(role);

    expect(await process.exitCode).toBe(3);
    expect(process.stderr()).toStartWith("error[CERTIFICATE_INVALID]: ");
  });
});

describe("a build without a data plane", () => {
  test("says so", async () => {
    const console = new MemoryConsole();

    expect(await run(["relay", "--config", at("relay.json")], console)).toBe(3);
    expect(console.stderr.text).toStartWith("error[DATA_PLANE_UNAVAILABLE]: ");
  });
});

const CONFIG: Readonly<Record<RoleName, object>> = {
  relay: { listen: ["127.0.0.1:4433"] },
  connector: { relays: ["127.0.0.1:4433"], service: "echo", backend: "53/udp=127.0.0.1:53" },
  agent: { relays: ["127.0.0.1:4433"] },
};

let directory = "";

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ztna-role-"));
  const out = ["--out", directory];
  await must("pki", "init", ...out);
  await must("pki", "issue", "admin", "other", ...out);
  await must("pki", "issue", "relay", "good-relay", "--host", "127.0.0.1", ...out);
  await must("pki", "issue", "connector", "good-connector", "--service", "echo", ...out);
  await must("pki", "issue", "agent", "good-agent", "--service", "echo", ...out);
});

beforeEach(() => {
  for (const role of ["relay", "connector", "agent"] as const) {
    for (const kind of ["crt", "key"])
      copyFileSync(at(`good-${role}.${kind}`), at(`${role}.${kind}`));
    const config = {
      ...CONFIG[role],
      certificate: at(`${role}.crt`),
      key: at(`${role}.key`),
      ca: at("ca.crt"),
      metrics: { listen: "127.0.0.1:0" },
      ...(role === "agent" ? { controlSocket: at("agent.sock") } : {}),
    };
    writeFileSync(at(`${role}.json`), JSON.stringify(config));
  }
});

afterAll(() => rmSync(directory, { recursive: true }));

function at(name: string): string {
  return join(directory, name);
}

function signal(name: "SIGTERM" | "SIGINT" | "SIGHUP"): void {
  process.emit(name, name);
}

function otherControlSocket(role: RoleName): string[] {
  return role === "agent" ? ["--control-socket", at("other.sock")] : [];
}

async function must(...argv: readonly string[]): Promise<void> {
  const console = new MemoryConsole();
  if ((await run(argv, console)) !== 0) throw new Error(console.stderr.text);
}

function start(role: RoleName, ...flags: readonly string[]) {
  const console = new MemoryConsole();
  const { logs, stderr } = console;
  let endpoint: MemoryEndpoint | undefined;
  const openEndpoint: OpenEndpoint = (options, onEvents) => {
    endpoint = new MemoryEndpoint(options, onEvents);
    return endpoint;
  };
  const exitCode = run([role, "--config", at(`${role}.json`), ...flags], {
    ...console,
    loadDataPlane: async () => openEndpoint,
  });
  const lines = () =>
    logs.text
      .split("\n")
      .filter(Boolean)
      .map((it) => JSON.parse(it) as { msg: string; local?: string });
  const line = (message: string) => lines().find(({ msg }) => msg === message);
  const says = (message: string) =>
    Promise.race([
      logs.until(() => line(message) !== undefined),
      exitCode.then((code) => {
        throw new Error(`ended with ${code}: ${stderr.text}`);
      }),
    ]);
  return {
    exitCode,
    says,
    line,
    stderr: () => stderr.text,
    messages: () => lines().map(({ msg }) => msg),
    endpoint: () => {
      if (endpoint === undefined) throw new Error("no endpoint was opened");
      return endpoint;
    },
    metricsAddress: async () => {
      await says("role started");
      return line("metrics listening")?.local ?? "";
    },
  };
}
