/**
 * Each role is killed during a download and started again after a while. All outages are played side by
 * side, each in a deployment of its own: most of their time is waiting.
 */
import { afterAll, describe, expect, test } from "bun:test";
import type { Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import {
  addTunAgent,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { patternDigest } from "../support/pattern.ts";
import { must, run } from "../support/process.ts";
import { LONG } from "../support/scale.ts";
import {
  SERVICE,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";
import { TunnelUses } from "../support/tunnel-uses.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

/** At the rate that `curl` is held to the download outlasts the longest outage's beginning by far. */
const LENGTH = 30_000_000;
const RATE = "3M";
/** What is left of a download that goes on, and more than any may take to fail. */
const PATIENCE_MS = 20_000;
const SILENCE_MS = 150_000;
const OUTAGES_S = LONG ? [5, 60] : [5];

type RoleName = "relay" | "connector" | "agent";

interface Outage {
  readonly demo: SimpleDeployment;
  readonly role: Role;
  readonly survivors: readonly { readonly role: Role; readonly pid: number }[];
  /** Of the `curl` that was under way. */
  readonly download: Promise<{ readonly code: number; readonly stdout: string }>;
}

const unavailable = await namespacesUnavailable();
const running: SimpleDeployment[] = [];
const networks: NamespacedDeployment[] = [];
afterAll(() =>
  Promise.all([
    ...running.map((it) => it.deployment.remove()),
    ...networks.map(removeNamespacedDeployment),
  ]),
);

describe.concurrent.each(OUTAGES_S)("an outage of %d s", (seconds) => {
  test("of the relay: peers are back within 3 s and the download goes on", async () => {
    const outage = await begin("relay");
    await outage.demo.deployment.explain(async () => {
      await end(outage, seconds);

      await registered(outage.demo, 3000);

      const { code, stdout } = await within(PATIENCE_MS, outage.download);
      // A minute is more than an application need wait for; that it may is no harm.
      if (seconds < 30 || code === 0) {
        expect({ code, stdout }).toEqual({ code: 0, stdout: `${patternDigest(LENGTH)}  -\n` });
      }
      await pageWithin(3000, outage.demo);
      expectSurvivors(outage);
    });
  });

  test("of the relay: idle peers are back within 12 s", async () => {
    const outage = await begin("relay", { downloading: false });
    await outage.demo.deployment.explain(async () => {
      await end(outage, seconds);

      await registered(outage.demo, 12_000);

      await pageWithin(3000, outage.demo);
      expectSurvivors(outage);
    });
  });

  test("of the connector: the download fails cleanly, a page within 3 s of the start", async () => {
    const outage = await begin("connector");
    await outage.demo.deployment.explain(async () => {
      await Bun.sleep(seconds * 1000);
      outage.role.start();

      await pageWithin(3000, outage.demo);

      expect((await within(PATIENCE_MS, outage.download)).code).not.toBe(0);
      expectSurvivors(outage);
    });
  });

  test("of a connector that starts at another address: a page within 3 s of that", async () => {
    const outage = await begin("connector");
    const { deployment } = outage.demo;
    await deployment.explain(async () => {
      await Bun.sleep(seconds * 1000);
      const { spec } = outage.role;
      const listen = ["127.0.0.1:0"];
      await deployment.add({ ...spec, config: { ...spec.config, listen } });

      await pageWithin(3000, outage.demo);

      // The one that is gone might come back: what it carried is given up after 120 s of silence.
      if (LONG) expect((await within(SILENCE_MS, outage.download)).code).not.toBe(0);
      expectSurvivors(outage);
    });
  });

  test("of the agent: the download fails at once, a page within 3 s of the start", async () => {
    const outage = await begin("agent");
    await outage.demo.deployment.explain(async () => {
      expect((await within(PATIENCE_MS, outage.download)).code).not.toBe(0);
      await Bun.sleep(seconds * 1000);
      outage.role.start();

      await pageWithin(3000, outage.demo);

      expectSurvivors(outage);
    });
  });

  test.skipIf(unavailable !== undefined)(
    `of an agent with TUN: nothing is left behind, a page within 3 s (${unavailable ?? "in namespaces"})`,
    async () => {
      const scene = await startNamespacedDeployment();
      networks.push(scene);
      const { agent, prefix } = await addTunAgent(scene, "alice", "10.0.1.10");
      await scene.deployment.explain(async () => {
        const addresses = await virtualAddresses(scene.deployment, agent, SERVICE);
        const uses = new TunnelUses(prefix, addresses);
        const before = await networkOf(prefix);
        // Nobody tells a client that only listens: it ends by its own patience.
        const patient = ["--max-time", "9", uses.url(`/bytes/${LENGTH}`, "ipv4")];
        const download = run([...prefix, ...curlOf(...patient)]);
        await Bun.sleep(1000);

        await agent.kill();

        expect(await networkOf(prefix)).not.toContain("ztna0");
        await Bun.sleep(seconds * 1000);
        agent.start();
        await answersWithin(3000, prefix, uses.url("/hello", "ipv4"));
        expect((await download).code).not.toBe(0);
        // Once, and no more than that.
        expect(await networkOf(prefix)).toBe(before);
        expect(await virtualAddresses(scene.deployment, agent, SERVICE)).toEqual(addresses);
        expect([scene.relay, scene.connector].some((it) => it.process.hasExited)).toBe(false);
      });
    },
  );
});

/** Kills the role, a moment into a download unless there shall be none. */
async function begin(name: RoleName, { downloading = true } = {}): Promise<Outage> {
  const demo = await startSimpleDeployment();
  running.push(demo);
  const role = demo[name];
  const survivors = [demo.relay, demo.connector, demo.agent]
    .filter((it) => it !== role)
    .map((it) => ({ role: it, pid: it.process.pid }));
  await pageWithin(PATIENCE_MS, demo);
  const url = `http://127.0.0.1:${demo.forwards.http}/bytes/${LENGTH}`;
  const download = downloading ? run(curlOf(url)) : Promise.resolve({ code: 0, stdout: "" });
  await Bun.sleep(1000);
  await role.kill();
  return { demo, role, survivors, download };
}

async function end({ role }: Outage, seconds: number): Promise<void> {
  await Bun.sleep(seconds * 1000);
  role.start();
  // A relay is ready once it listens, the others once a relay knows them.
  await role.ready();
}

/** Waits until the relay has both peers, and the service of the one. */
async function registered({ relay }: SimpleDeployment, withinMs: number): Promise<void> {
  await eventually("both peers are registered", { withinMs, everyMs: 50 }, async () => {
    const metrics = await relay.metrics();
    const legs = /^ztna_legs\S* 2$/m.test(metrics);
    return legs && /^ztna_services\S* 1$/m.test(metrics) ? true : undefined;
  });
}

function pageWithin(milliseconds: number, { forwards }: SimpleDeployment): Promise<void> {
  return answersWithin(milliseconds, [], `http://127.0.0.1:${forwards.http}/hello`);
}

/** Asks until there is an answer, which must have come in time. */
async function answersWithin(
  milliseconds: number,
  prefix: readonly string[],
  url: string,
): Promise<void> {
  const startedAt = performance.now();
  await eventually("a page", { withinMs: milliseconds }, async () => {
    const { code, stderr } = await run([...prefix, "curl", "-sS", "--max-time", "1", url]);
    if (code !== 0) throw new Error(stderr);
    return true;
  });
  expect(performance.now() - startedAt).toBeLessThan(milliseconds);
}

function curlOf(...details: readonly string[]): string[] {
  const curl = `curl -sS --limit-rate ${RATE} ${details.join(" ")} | sha256sum`;
  return ["bash", "-c", `set -o pipefail; ${curl}`];
}

/** What a host has of devices, addresses and routes, without the addresses that a device makes up. */
async function networkOf(prefix: readonly string[]): Promise<string> {
  const commands = [["-brief", "address"], ["route"], ["-6", "route"]];
  const parts = commands.map((command) => must([...prefix, "ip", ...command]));
  return (await Promise.all(parts)).join("").replace(/fe80::\S+ /g, "");
}

async function within<T>(milliseconds: number, result: Promise<T>): Promise<T> {
  const late = Bun.sleep(milliseconds).then(() => {
    throw new Error(`not within ${milliseconds} ms`);
  });
  return await Promise.race([result, late]);
}

function expectSurvivors({ survivors }: Outage): void {
  for (const { role, pid } of survivors) {
    expect(role.process.hasExited).toBe(false);
    expect(role.process.pid).toBe(pid);
  }
}
