/** A service that is not granted looks like one that does not exist: same answer, same time. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Deployment, HERE, ZTNA } from "../support/deployment.ts";
import { run } from "../support/process.ts";
import { type Answer, RawLeg } from "../support/raw-leg.ts";
import {
  SERVICE,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";
import { SocksRefusal, socksConnect } from "../support/socks-client.ts";

const TRIES = 200;
const DIFFERENCE_MS_MAX = 5;
/** Two questions in each: within the rate of control frames that a relay reads. */
const PAUSE_MS = 30;
const HIDDEN = "payroll";
const ABSENT = "pairoll";

let it: SimpleDeployment;

beforeAll(async () => {
  it = await startSimpleDeployment();
  await addHiddenService(it.deployment);
});
afterAll(() => it.deployment.remove());

describe("a service that is not granted", () => {
  test("is refused by SOCKS5 as one that does not exist, and as fast", () =>
    it.deployment.explain(async () => {
      const tries: Record<string, { reply: number; ms: number }[]> = { [HIDDEN]: [], [ABSENT]: [] };
      for (let count = 0; count < TRIES; count += 1) {
        for (const name of [HIDDEN, ABSENT]) tries[name]?.push(await refusal(name));
      }

      const [hidden = [], absent = []] = [tries[HIDDEN], tries[ABSENT]];
      expect(new Set(hidden.map(({ reply }) => reply))).toEqual(
        new Set(absent.map(({ reply }) => reply)),
      );
      expect(Math.abs(median(hidden) - median(absent))).toBeLessThan(DIFFERENCE_MS_MAX);
    }));

  test("is refused by the relay as one that does not exist, and as fast", () =>
    it.deployment.explain(async () => {
      const leg = await RawLeg.open(it.deployment, "alice", it.relayAddress);
      // Whoever may use a service is told so: what follows is not a deaf relay's answer.
      expect((await leg.openSession(SERVICE)).message).toMatchObject({ type: "session-open-ok" });

      const tries: Record<string, Answer[]> = { [HIDDEN]: [], [ABSENT]: [] };
      for (let count = 0; count < TRIES; count += 1) {
        for (const name of [HIDDEN, ABSENT]) tries[name]?.push(await leg.openSession(name));
        await Bun.sleep(PAUSE_MS);
      }
      await leg.close();

      const [hidden = [], absent = []] = [tries[HIDDEN], tries[ABSENT]];
      const refused = { type: "failed", code: "not-available", reason: "no such service" };
      expect(hidden.map(({ message }) => message)).toEqual(Array(TRIES).fill(refused));
      expect(absent.map(({ message }) => message)).toEqual(Array(TRIES).fill(refused));
      expect(Math.abs(median(hidden) - median(absent))).toBeLessThan(DIFFERENCE_MS_MAX);
    }));

  test("is refused by ping in the words for one that does not exist", () =>
    it.deployment.explain(async () => {
      const [hidden, absent] = [await ping(HIDDEN), await ping(ABSENT)];

      expect(hidden.code).toBe(3);
      expect(hidden.stderr).toContain("not-available");
      expect(hidden.stderr.replaceAll(HIDDEN, "NAME")).toBe(
        absent.stderr.replaceAll(ABSENT, "NAME"),
      );
    }));
});

/** A second connector provides the service for somebody else. */
async function addHiddenService(deployment: Deployment): Promise<void> {
  await deployment.issue("connector", "vault", "--service", HIDDEN);
  const { host, ports } = it.backend;
  const connector = await deployment.add({
    role: "connector",
    name: "vault",
    config: {
      relays: [it.relayAddress],
      listen: [`${HERE.host}:0`],
      services: [
        { name: HIDDEN, ports: [{ protocol: "tcp", port: 80, backend: `${host}:${ports.http}` }] },
      ],
    },
  });
  await connector.ready();
}

async function refusal(name: string): Promise<{ reply: number; ms: number }> {
  const startedAt = performance.now();
  try {
    await socksConnect(it.socks, name, 80);
  } catch (error) {
    if (!(error instanceof SocksRefusal)) throw error;
    return { reply: error.reply, ms: performance.now() - startedAt };
  }
  throw new Error(`${name} was not refused`);
}

function ping(name: string) {
  return run([ZTNA, "ping", name, "--count", "1", "--control-socket", it.controlSocket]);
}

function median(tries: readonly { readonly ms: number }[]): number {
  const sorted = tries.map(({ ms }) => ms).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
