/** What the relay can see, and what one agent can see of another. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  addTunAgent,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { must, TestProcess } from "../support/process.ts";
import { scaled } from "../support/scale.ts";
import { SERVICE, SERVICE_PORTS } from "../support/simple-deployment.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

const TIMES = scaled(1000);
const ASKER = new URL("../support/asker-main.ts", import.meta.url).pathname;

const unavailable =
  (await namespacesUnavailable()) ??
  (Bun.which("tcpdump") === null ? "needs the command tcpdump" : undefined);

describe.skipIf(unavailable !== undefined)(`isolation (${unavailable ?? "in namespaces"})`, () => {
  let it: NamespacedDeployment;
  const agents: { prefix: readonly string[]; ipv4: string }[] = [];

  beforeAll(async () => {
    it = await startNamespacedDeployment();
    for (const [name, address] of [
      ["alice", "10.0.1.10"],
      ["bob", "10.0.1.11"],
    ] as const) {
      const { agent, prefix } = await addTunAgent(it, name, address);
      const { ipv4 } = await virtualAddresses(it.deployment, agent, SERVICE);
      agents.push({ prefix, ipv4 });
    }
  });
  afterAll(() => removeNamespacedDeployment(it));

  test("what the application says is seen at the backend and never at the relay", () =>
    it.deployment.explain(async () => {
      const marker = randomBytes(32);
      const endRelay = await capture("relay");
      const endBackend = await capture("backend");

      await ask(0, "tcp", SERVICE_PORTS.echo, 0, marker);
      await ask(0, "udp", SERVICE_PORTS.udp, 0, marker);
      await ask(0, "http", SERVICE_PORTS.http, 0, marker);

      const [atRelay, atBackend] = [await endRelay(), await endBackend()];
      expect(count(atRelay, marker) + count(atRelay, Buffer.from(marker.toString("hex")))).toBe(0);
      expect(count(atBackend, marker)).toBeGreaterThanOrEqual(2 * TIMES);
      expect(count(atBackend, Buffer.from(marker.toString("hex")))).toBeGreaterThanOrEqual(TIMES);
      // An empty capture would prove nothing.
      expect(atRelay.length).toBeGreaterThan(TIMES * marker.length);
    }));

  test("two agents with the same source port get their own answers only", () =>
    it.deployment.explain(async () => {
      const answers = await Promise.all(
        agents.map((_, at) => ask(at, "udp", SERVICE_PORTS.udp, 40_000, randomBytes(32))),
      );

      for (const { sent, own, foreign } of answers) {
        expect(own).toBeGreaterThan(sent * 0.9);
        expect(foreign).toBe(0);
      }
    }));

  /** Runs `asker-main.ts` on an agent's host. */
  async function ask(
    at: number,
    kind: "tcp" | "udp" | "http",
    port: number,
    localPort: number,
    marker: Buffer,
  ): Promise<{ sent: number; own: number; foreign: number }> {
    const { prefix = [], ipv4 = "" } = agents[at] ?? {};
    const details = [kind, ipv4, port, localPort, TIMES, marker.toString("hex")].map(String);
    return JSON.parse(await must([...prefix, process.execPath, ASKER, ...details]));
  }

  /** Records every interface of a host; the function that is returned ends it. */
  async function capture(host: "relay" | "backend"): Promise<() => Promise<Buffer>> {
    const file = it.deployment.file(`${host}.pcap`);
    const command = [
      "tcpdump",
      "-i",
      "any",
      "-s",
      "0",
      "-U",
      "--immediate-mode",
      "-Z",
      "root",
      "-w",
      file,
    ];
    const recorder = new TestProcess([...it.places[host].prefix, ...command], { name: "tcpdump" });
    await recorder.line(/listening on/, { withinMs: 5000 });
    return async () => {
      await recorder.stop("SIGINT");
      return readFileSync(file);
    };
  }
});

function count(haystack: Buffer, needle: Buffer): number {
  let found = 0;
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, at + 1))
    found += 1;
  return found;
}
