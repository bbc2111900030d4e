/**
 * Each role is killed during a download and started again after a while. All outages are played side by
 * side, each in a deployment of its own: most of their time is waiting.
 */
import { afterAll, describe, expect, test } from "bun:test";
import type { Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { patternDigest } from "../support/pattern.ts";
import { run } from "../support/process.ts";
import { LONG } from "../support/scale.ts";
import { type SimpleDeployment, startSimpleDeployment } from "../support/simple-deployment.ts";

/** At the rate that `curl` is held to the download outlasts the longest outage's beginning by far. */
const LENGTH = 30_000_000;
const RATE = "3M";
const PATIENCE_MS = 15_000;
const OUTAGES_S = LONG ? [5, 60] : [5];

type RoleName = "relay" | "connector" | "agent";

interface Outage {
  readonly demo: SimpleDeployment;
  readonly role: Role;
  readonly survivors: readonly { readonly role: Role; readonly pid: number }[];
  /** Of the `curl` that was under way. */
  readonly download: Promise<{ readonly code: number; readonly stdout: string }>;
}

const running: SimpleDeployment[] = [];
afterAll(() => Promise.all(running.map((it) => it.deployment.remove())));

describe.concurrent.each(OUTAGES_S)("an outage of %d s", (seconds) => {
  test("of the relay: peers are back within 3 s and the download goes on", async () => {
    const outage = await begin("relay");
    await outage.demo.deployment.explain(async () => {
      await end(outage, seconds);

      await registered(outage.demo, 3000);

      const { code, stdout } = await outage.download;
      // A minute is more than an application need wait for; that it may is no harm.
      if (seconds < 30 || code === 0) {
        expect({ code, stdout }).toEqual({ code: 0, stdout: `${patternDigest(LENGTH)}  -\n` });
      }
      await page(outage.demo, 3000);
      expectSurvivors(outage);
    });
  });

  test("of the relay: idle peers are back within 12 s", async () => {
    const outage = await begin("relay", { downloading: false });
    await outage.demo.deployment.explain(async () => {
      await end(outage, seconds);

      await registered(outage.demo, 12_000);

      await page(outage.demo, 3000);
      expectSurvivors(outage);
    });
  });

  test("of the connector: the download fails cleanly and a new one is served within 3 s", async () => {
    const outage = await begin("connector");
    await outage.demo.deployment.explain(async () => {
      await end(outage, seconds);

      await page(outage.demo, 3000);

      expect((await within(PATIENCE_MS, outage.download)).code).not.toBe(0);
      expectSurvivors(outage);
    });
  });

  test("of a connector that comes back at another address: a page within 3 s", async () => {
    const outage = await begin("connector");
    const { deployment } = outage.demo;
    await deployment.explain(async () => {
      await Bun.sleep(seconds * 1000);
      const { spec } = outage.role;
      const listen = ["127.0.0.1:0"];
      const moved = await deployment.add({ ...spec, config: { ...spec.config, listen } });
      await moved.ready();

      await page(outage.demo, 3000);

      expectSurvivors(outage);
    });
  });

  test("of the agent: the download fails at once and a new one is served within 3 s", async () => {
    const outage = await begin("agent");
    await outage.demo.deployment.explain(async () => {
      expect((await within(PATIENCE_MS, outage.download)).code).not.toBe(0);
      await end(outage, seconds);

      await page(outage.demo, 3000);

      expectSurvivors(outage);
    });
  });
});

/** Kills the role, a moment into a download unless there shall be none. */
async function begin(name: RoleName, { downloading = true } = {}): Promise<Outage> {
  const demo = await startSimpleDeployment();
  running.push(demo);
  const role = demo[name];
  const survivors = [demo.relay, demo.connector, demo.agent]
    .filter((it) => it !== role)
    .map((it) => ({ role: it, pid: it.process.pid }));
  await page(demo, PATIENCE_MS);
  const url = `http://127.0.0.1:${demo.forwards.http}/bytes/${LENGTH}`;
  const curl = `set -o pipefail; curl -sS --limit-rate ${RATE} ${url} | sha256sum`;
  const download = downloading
    ? run(["bash", "-c", curl])
    : Promise.resolve({ code: 0, stdout: "" });
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

async function page({ forwards }: SimpleDeployment, withinMs: number): Promise<void> {
  await eventually("a page", { withinMs }, async () => {
    const url = `http://127.0.0.1:${forwards.http}/hello`;
    const { code, stderr } = await run(["curl", "-sS", "--max-time", "3", url]);
    if (code !== 0) throw new Error(stderr);
    return true;
  });
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
