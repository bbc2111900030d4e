import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ControlHandlers, openControlSocket } from "../../../src/agent/control-socket.ts";
import type { PingLine, PingRequest } from "../../../src/agent/ping.ts";
import type { AgentStatus } from "../../../src/agent/status.ts";
import { statusText } from "../../../src/cli/commands/status.ts";
import { controlSocketOf, ownUserId } from "../../../src/cli/control-socket-path.ts";
import { run } from "../../../src/cli/run.ts";
import { MemoryConsole } from "../../support/memory-console.ts";

describe("ztna status", () => {
  test("shows relays, services and how they are reached", () => {
    expect(statusText(STATUS).split("\n")).toEqual([
      "agent        ztna://corp.example/agent/alice, ztna/0.1.0, up 1 h 1 min",
      "certificate  valid until 2026-06-01 00:00 UTC",
      "device       ztna0, 10.100.0.0/16",
      "relay        relay.example:4433 connected, seen as 198.51.100.7:40000",
      "relay        192.0.2.2:4433 connecting, certificate names a, dialled b",
      "",
      "SERVICE  STATE   PATH                 RTT      FLOWS  UP     DOWN     ADDRESS",
      "echo     ready   DIRECT 10.0.0.5:443  1.25 ms  3      512 B  1.5 MiB  10.100.0.1",
      "payroll  failed  -                    -        0      0 B    0 B      fd7a:7a74:6e61::1",
      "",
      "payroll: no-connector: nobody provides it",
      "",
    ]);
  });

  test("says why there is nothing to show", () => {
    expect(statusText({ ...STATUS, services: [] })).toEndWith(
      "no services: nothing is granted, or no relay is connected\n",
    );
  });

  test("hands the agent's JSON to scripts as it is", async () => {
    await listen({ status: async () => STATUS });

    const { exitCode, stdout } = await ztna("status", "--json", "--control-socket", socket());

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual(STATUS);
  });

  test("finds the socket that the environment names", async () => {
    await listen({ status: async () => STATUS });

    const { exitCode, stdout } = await ztna("status");

    expect(exitCode).toBe(0);
    expect(stdout).toContain("ztna://corp.example/agent/alice");
  });

  test("without an agent it says so", async () => {
    const { exitCode, stderr } = await ztna("status");

    expect(exitCode).toBe(3);
    expect(stderr).toStartWith(`error[AGENT_NOT_RUNNING]: no agent answers at ${socket()}\n`);
  });

  test("an agent's own place depends on its user", async () => {
    expect(await controlSocketOf("/a", { ZTNA_CONTROL_SOCKET: "/b" })).toBe("/a");
    expect(await controlSocketOf(undefined, { ZTNA_CONTROL_SOCKET: "/b" })).toBe("/b");
    expect(await controlSocketOf(undefined, { XDG_RUNTIME_DIR: "/run/user/1" })).toBe(
      ownUserId() === 0 ? "/run/ztna/agent.sock" : "/run/user/1/ztna/agent.sock",
    );
  });
});

describe("ztna ping", () => {
  test("prints each answer as it comes and a summary", async () => {
    await listen(
      pinging([
        { type: "reply", sequence: 1, rttUs: 420, path: RELAYED },
        { type: "reply", sequence: 2 },
        { type: "reply", sequence: 3, rttUs: 21_000, path: RELAYED },
        { type: "summary", sent: 3, received: 2 },
      ]),
    );

    const { exitCode, stdout } = await ztna("ping", "echo");

    expect(exitCode).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "1: 0.42 ms RELAYED 192.0.2.1:4433",
      "2: lost",
      "3: 21.0 ms RELAYED 192.0.2.1:4433",
      "echo: 3 sent, 2 received, 33 % lost, min 0.42 ms, mean 10.7 ms, max 21.0 ms",
      "",
    ]);
  });

  test("asks for what the flags say", async () => {
    const asked: PingRequest[] = [];
    await listen(pinging([{ type: "reply", sequence: 1, rttUs: 1 }], asked));

    await ztna("ping", "echo", "-c", "7", "-i", "0.25", "-s", "1400");
    await ztna("ping", "echo");

    expect(asked).toEqual([
      { service: "echo", count: 7, intervalMs: 250, size: 1400 },
      { service: "echo", count: 4, intervalMs: 1000, size: 56 },
    ]);
  });

  test("is one JSON object for scripts", async () => {
    await listen(
      pinging([
        { type: "reply", sequence: 1, rttUs: 400, path: RELAYED },
        { type: "summary", sent: 1, received: 1 },
      ]),
    );

    const { stdout } = await ztna("ping", "echo", "--json");

    expect(JSON.parse(stdout)).toEqual({
      version: 1,
      service: "echo",
      sent: 1,
      received: 1,
      rttUs: { min: 400, mean: 400, max: 400 },
      lines: [{ type: "reply", sequence: 1, rttUs: 400, path: RELAYED }],
    });
  });

  test.each([
    {
      name: "a session is refused",
      lines: [{ type: "failed", code: "not-available", reason: "not for you" }],
      reason: "not-available: not for you",
    },
    {
      name: "the connector refuses the flow",
      lines: [{ type: "refused", sequence: 1, answer: 3 }],
      reason: "unreachable",
    },
    {
      name: "everything is lost",
      lines: [
        { type: "reply", sequence: 1 },
        { type: "summary", sent: 1, received: 0 },
      ],
      reason: "no answer",
    },
  ] as { name: string; lines: PingLine[]; reason: string }[])(
    "fails when $name",
    async ({ lines, reason }) => {
      await listen(pinging(lines));

      const { exitCode, stderr } = await ztna("ping", "echo");

      expect(exitCode).toBe(3);
      expect(stderr).toBe(
        `error[PING_FAILED]: echo did not answer: ${reason}\n  hint: See \`ztna status\`.\n`,
      );
    },
  );

  test.each([
    ["-c", "many"],
    ["-c", "0"],
    ["-i", "-1"],
    ["-s", "9217"],
  ])("refuses %s %s", async (flag, value) => {
    await listen(pinging([]));

    const { exitCode, stderr } = await ztna("ping", "echo", `${flag}${value}`);

    expect([exitCode, stderr.slice(0, 12)]).toEqual([2, "error[USAGE]"]);
  });
});

const RELAYED = { kind: "relayed", address: "192.0.2.1:4433" } as const;

const STATUS: AgentStatus = {
  version: 1,
  software: "ztna/0.1.0",
  identity: "ztna://corp.example/agent/alice",
  uptimeSeconds: 3661.5,
  certificateNotAfter: Date.UTC(2026, 5, 1) / 1000,
  tun: "ztna0",
  ipv4Pool: "10.100.0.0/16",
  relays: [
    { address: "relay.example:4433", state: "connected", observed: "198.51.100.7:40000" },
    { address: "192.0.2.2:4433", state: "connecting", error: "certificate names a, dialled b" },
  ],
  services: [
    {
      name: "echo",
      ipv4: "10.100.0.1",
      ipv6: "fd7a:7a74:6e61::2",
      ports: [],
      state: "ready",
      path: { kind: "direct", address: "10.0.0.5:443", rttUs: 1250 },
      sessions: [],
      flows: 3,
      bytesUp: 512,
      bytesDown: 1_572_864,
    },
    {
      name: "payroll",
      ipv6: "fd7a:7a74:6e61::1",
      ports: [],
      state: "failed",
      sessions: [],
      flows: 0,
      bytesUp: 0,
      bytesDown: 0,
      error: { code: "no-connector", reason: "nobody provides it" },
    },
  ],
  tunnels: [],
};

let directory = "";
let close: () => Promise<void> = async () => {};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ztna-agent-"));
});

afterEach(async () => {
  await close();
  close = async () => {};
  rmSync(directory, { recursive: true });
});

function socket(): string {
  return join(directory, "agent.sock");
}

async function listen(handlers: Partial<ControlHandlers>): Promise<void> {
  const server = await openControlSocket(socket(), ownUserId(), {
    status: async () => STATUS,
    ping: () => () => {},
    ...handlers,
  });
  close = () => server.close();
}

function pinging(lines: readonly PingLine[], asked: PingRequest[] = []): Partial<ControlHandlers> {
  return {
    ping: (request, onLine, onEnd) => {
      asked.push(request);
      for (const line of lines) onLine(line);
      onEnd();
      return () => {};
    },
  };
}

async function ztna(...argv: readonly string[]) {
  const console = new MemoryConsole({ ZTNA_CONTROL_SOCKET: socket() });
  const exitCode = await run(argv, console);
  return { exitCode, stdout: console.stdout.text, stderr: console.stderr.text };
}
