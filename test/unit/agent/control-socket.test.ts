import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requestPing, requestStatus } from "../../../src/agent/control-client.ts";
import { defaultControlSocket } from "../../../src/agent/control-protocol.ts";
import { type ControlHandlers, openControlSocket } from "../../../src/agent/control-socket.ts";
import type { PingLine, PingRequest } from "../../../src/agent/ping.ts";
import type { AgentStatus } from "../../../src/agent/status.ts";

const UID = process.getuid?.() ?? 0;
const STATUS = { version: 1, identity: "ztna://e/agent/a" } as AgentStatus;

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ztna-control-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("control socket", () => {
  test("answers status, to its own user only, and is gone when closed", async () => {
    const path = join(directory, "a", "agent.sock");
    const socket = await openControlSocket(path, UID, handlers());

    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "a")).mode & 0o777).toBe(0o700);
    expect(await requestStatus(path)).toEqual(STATUS);

    await socket.close();
    expect(existsSync(path)).toBe(false);
    await expect(requestStatus(path)).rejects.toMatchObject({ code: "AGENT_NOT_RUNNING" });
  });

  test("streams a series of pings line by line", async () => {
    const path = join(directory, "b.sock");
    const lines: PingLine[] = [
      { type: "reply", sequence: 0, rttUs: 900, path: { kind: "relayed", address: "192.0.2.1:1" } },
      { type: "summary", sent: 1, received: 1 },
    ];
    const asked: PingRequest[] = [];
    const socket = await openControlSocket(
      path,
      UID,
      handlers((request, onLine, onEnd) => {
        asked.push(request);
        for (const line of lines) onLine(line);
        onEnd();
        return () => {};
      }),
    );

    expect(await Array.fromAsync(requestPing(path, { service: "echo", count: 1 }))).toEqual(lines);
    expect(asked).toEqual([{ service: "echo", count: 1, intervalMs: 1000, size: 56 }]);
    await socket.close();
  });

  test("a client that leaves ends its series", async () => {
    const path = join(directory, "c.sock");
    const left = Promise.withResolvers<void>();
    const socket = await openControlSocket(
      path,
      UID,
      handlers((_request, onLine) => {
        onLine({ type: "reply", sequence: 0 });
        return () => left.resolve();
      }),
    );

    for await (const _line of requestPing(path, { service: "echo" })) break;

    await left.promise;
    await socket.close();
  });

  test.each([
    { name: "no service", request: {} },
    { name: "a service that is none", request: { service: "Echo" } },
    { name: "more pings than the data plane takes", request: { service: "echo", count: 10_001 } },
    { name: "more octets than a datagram has", request: { service: "echo", size: 9217 } },
    { name: "an interval of nothing", request: { service: "echo", intervalMs: 9 } },
  ])("refuses a ping with $name", async ({ request }) => {
    const path = join(directory, "d.sock");
    const socket = await openControlSocket(path, UID, handlers());

    const asking = Array.fromAsync(requestPing(path, request as PingRequest));

    await expect(asking).rejects.toMatchObject({ code: "USAGE" });
    await socket.close();
  });

  test("replaces what a killed agent left", async () => {
    const path = join(directory, "e.sock");
    const killed = Bun.spawnSync([
      ...[
        process.execPath,
        "-e",
        `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`,
      ],
    ]);
    expect(killed.success).toBe(false);
    expect(statSync(path).isSocket()).toBe(true);

    const socket = await openControlSocket(path, UID, handlers());

    expect(await requestStatus(path)).toEqual(STATUS);
    await socket.close();
  });

  test("leaves a living agent's socket alone", async () => {
    const path = join(directory, "f.sock");
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(path, resolve));

    await expect(openControlSocket(path, UID, handlers())).rejects.toMatchObject({
      code: "ADDRESS_IN_USE",
    });
    await new Promise((resolve) => other.close(resolve));
  });

  test("leaves a file alone", async () => {
    const path = join(directory, "g.sock");
    writeFileSync(path, "precious");

    await expect(openControlSocket(path, UID, handlers())).rejects.toMatchObject({
      code: "FILE_EXISTS",
    });
  });

  test("does not trust a directory in which others may rename", async () => {
    const open = join(directory, "open");
    mkdirSync(open);
    chmodSync(open, 0o777);

    await expect(openControlSocket(join(open, "h.sock"), UID, handlers())).rejects.toMatchObject({
      code: "FILE_UNWRITABLE",
    });
  });

  test.each([
    { name: "root", runtime: "/run/user/0", uid: 0, path: "/run/ztna/agent.sock" },
    { name: "a user", runtime: "/run/user/7", uid: 7, path: "/run/user/7/ztna/agent.sock" },
    { name: "a user without a runtime directory", uid: 7, path: "/tmp/ztna-7/agent.sock" },
  ])("of $name is where nobody else can be first", ({ runtime, uid, path }) => {
    expect(defaultControlSocket({ XDG_RUNTIME_DIR: runtime }, uid)).toBe(path);
  });
});

function handlers(ping: ControlHandlers["ping"] = () => () => {}): ControlHandlers {
  return { status: () => Promise.resolve(STATUS), ping };
}
