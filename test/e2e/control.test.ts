/** What `ztna status` and `ztna ping` say of a running agent. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import type { AgentStatus } from "../../src/agent/status.ts";
import { ZTNA } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { must, run } from "../support/process.ts";
import {
  SERVICE,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";

let it: SimpleDeployment;

beforeAll(async () => {
  it = await startSimpleDeployment();
});
afterAll(() => it.deployment.remove());

describe("ztna status", () => {
  test("shows a service that nobody has used, and then how it is reached", () =>
    it.deployment.explain(async () => {
      const idle = await status();
      await must(["curl", "-sS", "--max-time", "10", url("/bytes/1000000"), "-o", "/dev/null"]);
      const used = await eventually("the bytes are counted", { withinMs: 3000 }, async () => {
        const now = await status();
        return (now.services[0]?.bytesDown ?? 0) >= 1_000_000 ? now : undefined;
      });

      expect(idle.services).toMatchObject([{ name: SERVICE, state: "idle", bytesDown: 0 }]);
      expect(used.relays).toMatchObject([{ address: it.relayAddress, state: "connected" }]);
      expect(used.services).toMatchObject([
        {
          name: SERVICE,
          state: "ready",
          peer: "ztna://example/connector/connector",
          path: { kind: "relayed", address: it.relayAddress },
          sessions: [{ relay: it.relayAddress }],
        },
      ]);
      expect(used.services[0]?.path?.rttUs).toBeGreaterThan(0);
      expect(used.tunnels).toMatchObject([{ silent: false, paths: [{ selected: true }] }]);
    }));

  test("prints the same for people", () =>
    it.deployment.explain(async () => {
      const text = await must([ZTNA, "status", "--control-socket", it.controlSocket]);

      expect(text).toContain("agent        ztna://example/agent/alice, ztna/");
      expect(text).toContain(`relay        ${it.relayAddress} connected, seen as 127.0.0.1:`);
      expect(text).toMatch(new RegExp(`^${SERVICE}  ready  RELAYED ${it.relayAddress}  `, "m"));
    }));
});

describe("ztna ping", () => {
  test("measures the way and counts the answers", () =>
    it.deployment.explain(async () => {
      const answer = JSON.parse(
        await ping(SERVICE, "--count", "5", "--interval", "0.05", "--json"),
      );

      expect(answer).toMatchObject({ service: SERVICE, sent: 5, received: 5 });
      expect(answer.rttUs.min).toBeGreaterThan(0);
      expect(answer.lines).toHaveLength(5);
    }));

  test("prints a line an answer and a summary", () =>
    it.deployment.explain(async () => {
      const lines = (await ping(SERVICE, "--count", "2", "--interval", "0.05")).trim().split("\n");

      expect(lines).toHaveLength(3);
      expect(lines[0]).toMatch(/^0: \d+\.\d\d ms RELAYED /);
      expect(lines[2]).toStartWith(`${SERVICE}: 2 sent, 2 received, 0 % lost, min `);
    }));
});

describe("the control socket", () => {
  test("is for the agent's own user alone", () => {
    expect(statSync(it.controlSocket).mode & 0o777).toBe(0o600);
  });

  test("of a killed agent is replaced at the next start, and gone after a stop", () =>
    it.deployment.explain(async () => {
      await it.agent.kill();
      expect(existsSync(it.controlSocket)).toBe(true);
      const refused = await run([ZTNA, "status", "--control-socket", it.controlSocket]);
      expect(refused.code).toBe(3);
      expect(refused.stderr).toContain("error[AGENT_NOT_RUNNING]");
      it.agent.start();
      await it.agent.ready();
      expect((await status()).identity).toBe("ztna://example/agent/alice");

      await it.agent.stop();

      expect(existsSync(it.controlSocket)).toBe(false);
    }));
});

async function status(): Promise<AgentStatus> {
  return JSON.parse(await must([ZTNA, "status", "--json", "--control-socket", it.controlSocket]));
}

function ping(...details: readonly string[]): Promise<string> {
  return must([ZTNA, "ping", ...details, "--control-socket", it.controlSocket]);
}

function url(path: string): string {
  return `http://127.0.0.1:${it.forwards.http}${path}`;
}
