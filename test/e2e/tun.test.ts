/** TUN mode: every role on a host of its own, applications that know nothing of the tunnel. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
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
import { LONG, scaled } from "../support/scale.ts";
import { SERVICE, SERVICE_PORTS } from "../support/simple-deployment.ts";
import { type VirtualAddresses, virtualAddresses } from "../support/virtual-address.ts";

const BIG = scaled(1024 ** 3);
const PARALLEL = scaled(200);
/** Longer than a tunnel may be idle; a shorter run shows the application's part alone. */
const SILENT_SECONDS = LONG ? 200 : 20;
const APPLICATION = new URL("../support/application-main.ts", import.meta.url).pathname;
const FAMILIES = ["ipv4", "ipv6"] as const;

const unavailable = await namespacesUnavailable();

describe.skipIf(unavailable !== undefined)(
  `an agent with TUN (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let agent: { readonly agent: Role; readonly prefix: readonly string[] };
    let service: VirtualAddresses;
    /** Runs beside the other tests, since nothing happens in it. */
    let silence: Promise<readonly string[]>;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      agent = await addTunAgent(it, "alice", "10.0.1.10");
      service = await virtualAddresses(it.deployment, agent.agent, SERVICE);
      const silent = (family: keyof VirtualAddresses) =>
        application("silence", family, SERVICE_PORTS.echo, SILENT_SECONDS);
      silence = Promise.all(FAMILIES.map(silent));
      // What fails is told by the test that waits for it.
      silence.catch(() => undefined);
    });
    afterAll(() => removeNamespacedDeployment(it));

    test.each(FAMILIES)("curl gets a page over %s", (family) =>
      it.deployment.explain(async () => {
        expect(await curl(url("/hello", family))).toEqual({
          code: 0,
          stdout: "hello from the backend\n",
          stderr: "",
        });
      }),
    );

    test.each(FAMILIES)("a big download and a big upload arrive whole over %s", (family) =>
      it.deployment.explain(async () => {
        const download = `curl -sS --max-time 600 ${url(`/bytes/${BIG}`, family)} | sha256sum`;
        expect(await must([...agent.prefix, "sh", "-c", download])).toStartWith(patternDigest(BIG));

        const upload = `head -c ${BIG} /dev/zero | curl -sS --max-time 600 -T - -X POST ${url("/digest", family)}`;
        const zeros = (await must(["sh", "-c", `head -c ${BIG} /dev/zero | sha256sum`])).slice(
          0,
          64,
        );
        expect(JSON.parse(await must([...agent.prefix, "sh", "-c", upload]))).toEqual({
          length: BIG,
          digest: zeros,
        });
      }),
    );

    test.each(FAMILIES)("many downloads side by side arrive whole over %s", (family) =>
      it.deployment.explain(async () => {
        const length = 1_000_000;
        const one = `curl -sS --max-time 120 ${url(`/bytes/${length}`, family)} | sha256sum`;
        const many = `for i in $(seq ${PARALLEL}); do (${one}) & done; wait`;

        const lines = (await must([...agent.prefix, "sh", "-c", many])).trim().split("\n");

        expect(lines).toEqual(Array(PARALLEL).fill(`${patternDigest(length)}  -`));
      }),
    );

    test.each(FAMILIES)("a long conversation keeps its order and half-closes over %s", (family) =>
      it.deployment.explain(async () => {
        expect(await application("conversation", family, SERVICE_PORTS.echo, 500)).toBe("ok\n");
        expect(await application("answer", family, SERVICE_PORTS.digest, 3_000_000)).toBe("ok\n");
      }),
    );

    test("a connection that was silent for long carries data again", () =>
      it.deployment.explain(async () => {
        expect(await silence).toEqual(FAMILIES.map(() => "ok\n"));
      }));

    test("a killed agent leaves nothing in the way of the next start, a stopped one nothing at all", () =>
      it.deployment.explain(async () => {
        await agent.agent.kill();
        expect(await ztna0()).toEqual({ device: false, routes: false });
        agent.agent.start();
        await agent.agent.ready();
        expect((await curl(url("/hello"))).code).toBe(0);
        expect(await ztna0()).toEqual({ device: true, routes: true });

        await agent.agent.stop();

        expect(await ztna0()).toEqual({ device: false, routes: false });
        expect(existsSync(it.deployment.file("alice.sock"))).toBe(false);
      }));

    /** What the agent's host has of the device. */
    async function ztna0(): Promise<{ device: boolean; routes: boolean }> {
      const ask = (...command: string[]) => must([...agent.prefix, "ip", ...command]);
      const routes = (await ask("route")) + (await ask("-6", "route"));
      return { device: (await ask("link")).includes("ztna0"), routes: routes.includes("ztna0") };
    }

    function url(path: string, family: keyof VirtualAddresses = "ipv4"): string {
      const host = family === "ipv6" ? `[${service.ipv6}]` : service.ipv4;
      return `http://${host}:${SERVICE_PORTS.http}${path}`;
    }

    /** Runs `application-main.ts` on the agent's host. */
    function application(kind: string, family: keyof VirtualAddresses, ...details: number[]) {
      const use = [kind, service[family], ...details.map(String)];
      return must([...agent.prefix, process.execPath, APPLICATION, ...use]);
    }

    function curl(target: string) {
      return run([...agent.prefix, "curl", "-sS", "--max-time", "10", target]);
    }
  },
);
