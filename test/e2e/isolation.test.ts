/** What the relay can see, and what one agent can see of another. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Asked } from "../support/asker-main.ts";
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
const PORTS = {
  tcp: SERVICE_PORTS.echo,
  udp: SERVICE_PORTS.udp,
  http: SERVICE_PORTS.http,
} as const;
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
      const hex = Buffer.from(marker.toString("hex"));
      const endRelay = await capture("relay");

      for (const kind of ["tcp", "udp", "http"] as const) {
        const endBackend = await capture("backend");
        expect(await ask(0, kind, PORTS[kind], 0, marker)).toMatchObject({ foreign: 0 });
        const { octets } = await endBackend();
        // Each way.
        expect(count(octets, kind === "http" ? hex : marker)).toBeGreaterThanOrEqual(2 * TIMES);
      }

      const { octets, packets } = await endRelay();
      expect(count(octets, marker) + count(octets, hex)).toBe(0);
      // Of TCP alone as many words came in and went out, each way.
      expect(packets).toBeGreaterThanOrEqual(4 * TIMES);
    }));

  test("what passes the relay's host without a tunnel is seen there", () =>
    it.deployment.explain(async () => {
      const marker = randomBytes(32);
      const end = await capture("relay");
      const words = marker.toString("hex");
      const { prefix = [] } = agents[0] ?? {};
      const say = `for i in $(seq ${TIMES}); do echo ${words} >/dev/udp/${it.places.relay.host}/9; done`;

      await must([...prefix, "bash", "-c", say]);

      expect(count((await end()).octets, Buffer.from(words))).toBeGreaterThanOrEqual(TIMES);
    }));

  test("two agents with the same source port get their own answers only", () =>
    it.deployment.explain(async () => {
      const answers = await Promise.all(
        agents.map((_, at) => ask(at, "udp", SERVICE_PORTS.udp, 40_000, randomBytes(32))),
      );

      for (const { own, foreign } of answers) {
        expect(own).toBeGreaterThanOrEqual(TIMES);
        expect(foreign).toBe(0);
      }
      const lastStart = Math.max(...answers.map(({ startedAt }) => startedAt));
      expect(Math.min(...answers.map(({ endedAt }) => endedAt))).toBeGreaterThan(lastStart);
    }));

  /** Runs `asker-main.ts` on an agent's host. */
  async function ask(
    at: number,
    kind: keyof typeof PORTS,
    port: number,
    localPort: number,
    marker: Buffer,
  ): Promise<Asked> {
    const { prefix = [], ipv4 = "" } = agents[at] ?? {};
    const details = [kind, ipv4, port, localPort, TIMES, marker.toString("hex")].map(String);
    return JSON.parse(await must([...prefix, process.execPath, ASKER, ...details]));
  }

  /** Records every interface of a host; the function that is returned ends it. */
  async function capture(host: "relay" | "backend"): Promise<() => Promise<Capture>> {
    const file = it.deployment.file(`${host}.pcap`);
    const everything = ["-i", "any", "-s", "0", "-B", "65536", "-U", "--immediate-mode"];
    const command = ["tcpdump", ...everything, "-Z", "root", "-w", file];
    const recorder = new TestProcess([...it.places[host].prefix, ...command], { name: "tcpdump" });
    await recorder.line(/listening on/, { withinMs: 5000 });
    return async () => {
      await recorder.stop("SIGINT");
      const said = recorder.lines.join("\n");
      expect(said).toContain("0 packets dropped by kernel");
      const [, packets = "0"] = /(\d+) packets captured/.exec(said) ?? [];
      return { octets: readFileSync(file), packets: Number(packets) };
    };
  }
});

interface Capture {
  readonly octets: Buffer;
  readonly packets: number;
}

function count(haystack: Buffer, needle: Buffer): number {
  let found = 0;
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, at + 1))
    found += 1;
  return found;
}
