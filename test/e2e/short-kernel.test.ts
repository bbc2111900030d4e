/** A kernel that is short of memory refuses sends (`ENOBUFS`) or takes no more (`EAGAIN`) in a download. */
import { afterAll, describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { dataPlaneCounter } from "../support/counters.ts";
import {
  addTunAgent,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { patternDigest } from "../support/pattern.ts";
import { must, run } from "../support/process.ts";
import { shortageUnavailable, startShort } from "../support/short-kernel.ts";
import {
  SERVICE,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";
import { TunnelUses } from "../support/tunnel-uses.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

/** Held to this rate the download outlasts the shortage. */
const LENGTH = 24_000_000;
const RATE = "4M";
const SHORT_MS = 3000;
/** The least that Linux gives, less than one train of packets. */
const SEND_BUFFER = 4608;
/** Of the queue behind it, for `tc`. */
const SLOW = ["tbf", "rate", "40mbit", "burst", "16kb", "limit", "1mb"];

const noShortage = shortageUnavailable();
const noNetwork =
  noShortage ??
  (await namespacesUnavailable()) ??
  (Bun.which("tc") === null ? "needs the command tc" : undefined);

describe.skipIf(noShortage !== undefined)(
  `a kernel without buffers (${noShortage ?? "preloaded"})`,
  () => {
    const demos: SimpleDeployment[] = [];
    afterAll(() => Promise.all(demos.map((it) => it.deployment.remove())));

    test.each([
      { name: "agent" } as const,
      { name: "connector" } as const,
      { name: "relay" } as const,
    ])("costs a download a pause and nothing else, at the $name", async ({ name }) => {
      const demo = await startSimpleDeployment();
      demos.push(demo);
      const { deployment, forwards } = demo;
      await deployment.explain(async () => {
        const flag = deployment.file("no-buffers");
        const short = await startShort(deployment, demo[name], { noBuffersWhile: flag });
        const url = `http://127.0.0.1:${forwards.http}`;
        await must([
          "curl",
          "-sS",
          "--max-time",
          "10",
          "--retry",
          "5",
          "--retry-all-errors",
          `${url}/hello`,
        ]);
        expect(await lackOf(short)).toBe(0);
        const download = startDownload([], url);
        await Bun.sleep(1000);

        writeFileSync(flag, "");
        await Bun.sleep(SHORT_MS);
        rmSync(flag);

        expect(await download).toEqual({ code: 0, stdout: `${patternDigest(LENGTH)}  -\n` });
        expect(await lackOf(short)).toBeGreaterThan(0);
        expect(short.process.hasExited).toBe(false);
      });
    });
  },
);

describe.skipIf(noNetwork !== undefined)(
  `a socket that takes no more (${noNetwork ?? "in namespaces"})`,
  () => {
    test("is waited for, and a download arrives whole", async () => {
      const it = await startNamespacedDeployment();
      try {
        await it.deployment.explain(async () => {
          const { places, deployment } = it;
          const sendBuffer = SEND_BUFFER;
          const connector = await startShort(deployment, it.connector, { sendBuffer });
          const [device = ""] = /eth\d+/.exec(
            await must([...places.connector.prefix, "ip", "-brief", "link"]),
          ) ?? [""];
          await must([
            ...places.connector.prefix,
            "tc",
            "qdisc",
            "add",
            "dev",
            device,
            "root",
            ...SLOW,
          ]);
          const { agent, prefix } = await addTunAgent(it, "alice", "10.0.1.10");
          const uses = new TunnelUses(prefix, await virtualAddresses(deployment, agent, SERVICE));

          const download = await startDownload(prefix, uses.url("", "ipv4"));

          expect(download).toEqual({ code: 0, stdout: `${patternDigest(LENGTH)}  -\n` });
          const blocked = dataPlaneCounter(await connector.metrics(), "udp_send_blocked");
          expect(blocked).toBeGreaterThan(0);
        });
      } finally {
        await removeNamespacedDeployment(it);
      }
    });
  },
);

async function startDownload(
  prefix: readonly string[],
  url: string,
): Promise<{ code: number; stdout: string }> {
  const curl = `curl -sS --max-time 90 --limit-rate ${RATE} ${url}/bytes/${LENGTH} | sha256sum`;
  const { code, stdout } = await run([...prefix, "bash", "-c", `set -o pipefail; ${curl}`]);
  return { code, stdout };
}

async function lackOf(role: { metrics(): Promise<string> }): Promise<number> {
  return dataPlaneCounter(await role.metrics(), "udp_send_no_buffers");
}
