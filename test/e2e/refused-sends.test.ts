/**
 * A firewall on a peer's own host refuses what the peer sends (`EPERM`) for some seconds of a download.
 *
 * The drop of a rule in the output hook is not silent: the sender's call fails.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dataPlaneCounter } from "../support/counters.ts";
import type { Role } from "../support/deployment.ts";
import {
  addTunAgent,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { patternDigest } from "../support/pattern.ts";
import { must, run } from "../support/process.ts";
import { SERVICE, SERVICE_PORTS } from "../support/simple-deployment.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

/** Held to this rate the download outlasts the refusal. */
const LENGTH = 24_000_000;
const RATE = "4M";
const REFUSED_MS = 3000;
type Host = "alice" | "connector";

const unavailable =
  (await namespacesUnavailable()) ??
  (Bun.which("nft") === null ? "needs the command nft" : undefined);

describe.skipIf(unavailable !== undefined)(
  `a firewall that refuses sends (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let roles: Readonly<Record<Host | "relay", Role>>;
    let url: string;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      const { agent: alice } = await addTunAgent(it, "alice", "10.0.1.10");
      roles = { relay: it.relay, connector: it.connector, alice };
      const { ipv4 } = await virtualAddresses(it.deployment, alice, SERVICE);
      url = `http://${ipv4}:${SERVICE_PORTS.http}`;
      const page = ["curl", "-sS", "--max-time", "10", `${url}/hello`];
      await it.deployment.explain(() => must([...it.network.prefixOf("alice"), ...page]));
      for (const host of ["alice", "connector"] as const) {
        await nft(host, "add table inet test");
        await nft(host, "add chain inet test out { type filter hook output priority 0; }");
      }
    });
    afterAll(() => removeNamespacedDeployment(it));

    const cases: readonly { readonly name: string; readonly hosts: readonly Host[] }[] = [
      { name: "of the agent", hosts: ["alice"] },
      { name: "of the connector", hosts: ["connector"] },
      { name: "of both", hosts: ["alice", "connector"] },
    ];
    test.each(cases)("$name costs a download a pause and nothing else", ({ hosts }) =>
      it.deployment.explain(async () => {
        const pids = Object.values(roles).map((role) => role.process.pid);
        const before = await refusedBy(hosts);
        const download = startDownload();
        await Bun.sleep(1000);

        for (const host of hosts) {
          await nft(host, "add rule inet test out ip daddr 10.0.1.0/24 meta l4proto udp drop");
          expect(await tryToSend(host)).toContain("Operation not permitted");
        }
        await Bun.sleep(REFUSED_MS);
        for (const host of hosts) await nft(host, "flush chain inet test out");

        expect(await download).toEqual({ code: 0, stdout: `${patternDigest(LENGTH)}  -\n` });
        for (const [index, count] of (await refusedBy(hosts)).entries()) {
          expect(count).toBeGreaterThan(before[index] ?? 0);
        }
        expect(Object.values(roles).some((role) => role.process.hasExited)).toBe(false);
        expect(Object.values(roles).map((role) => role.process.pid)).toEqual(pids);
      }),
    );

    async function startDownload(): Promise<{ code: number; stdout: string }> {
      const curl = `curl -sS --max-time 60 --limit-rate ${RATE} ${url}/bytes/${LENGTH} | sha256sum`;
      const command = ["bash", "-c", `set -o pipefail; ${curl}`];
      const { code, stdout } = await run([...it.network.prefixOf("alice"), ...command]);
      return { code, stdout };
    }

    /** Returns what the system says to a program that sends a datagram to the relay. */
    async function tryToSend(host: Host): Promise<string> {
      const command = ["bash", "-c", "echo > /dev/udp/10.0.1.2/9"];
      const { stderr } = await run([...it.network.prefixOf(host), ...command]);
      return stderr;
    }

    function refusedBy(hosts: readonly Host[]): Promise<number[]> {
      return Promise.all(
        hosts.map(async (host) =>
          dataPlaneCounter(await roles[host].metrics(), "udp_send_refused"),
        ),
      );
    }

    function nft(host: Host, command: string): Promise<string> {
      return must([...it.network.prefixOf(host), "nft", command]);
    }
  },
);
