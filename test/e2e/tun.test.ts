/** TUN mode: every role on a host of its own, applications that know nothing of the tunnel. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
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
import { scaled } from "../support/scale.ts";
import { SERVICE, SERVICE_PORTS } from "../support/simple-deployment.ts";
import { type VirtualAddresses, virtualAddresses } from "../support/virtual-address.ts";

const BIG = scaled(1024 ** 3);
const PARALLEL = scaled(200);

const unavailable = await namespacesUnavailable();

describe.skipIf(unavailable !== undefined)(
  `an agent with TUN (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let agent: { readonly agent: Role; readonly prefix: readonly string[] };
    let service: VirtualAddresses;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      agent = await addTunAgent(it, "alice", "10.0.1.10");
      service = await virtualAddresses(it.deployment, agent.agent, SERVICE);
    });
    afterAll(() => removeNamespacedDeployment(it));

    test.each([
      { name: "IPv4", host: () => service.ipv4 },
      { name: "IPv6", host: () => `[${service.ipv6}]` },
    ])("curl gets a page over $name", ({ host }) =>
      it.deployment.explain(async () => {
        expect(await curl(`http://${host()}:${SERVICE_PORTS.http}/hello`)).toEqual({
          code: 0,
          stdout: "hello from the backend\n",
          stderr: "",
        });
      }),
    );

    test("a big download and a big upload arrive whole", () =>
      it.deployment.explain(async () => {
        const download = `curl -sS --max-time 600 ${url(`/bytes/${BIG}`)} | sha256sum`;
        expect(await must([...agent.prefix, "sh", "-c", download])).toStartWith(patternDigest(BIG));

        const upload = `head -c ${BIG} /dev/zero | curl -sS --max-time 600 -T - -X POST ${url("/digest")}`;
        const zeros = (await must(["sh", "-c", `head -c ${BIG} /dev/zero | sha256sum`])).slice(
          0,
          64,
        );
        expect(JSON.parse(await must([...agent.prefix, "sh", "-c", upload]))).toEqual({
          length: BIG,
          digest: zeros,
        });
      }));

    test("many downloads side by side arrive whole", () =>
      it.deployment.explain(async () => {
        const length = 1_000_000;
        const one = `curl -sS --max-time 120 ${url(`/bytes/${length}`)} | sha256sum`;
        const many = `for i in $(seq ${PARALLEL}); do (${one}) & done; wait`;

        const lines = (await must([...agent.prefix, "sh", "-c", many])).trim().split("\n");

        expect(lines).toEqual(Array(PARALLEL).fill(`${patternDigest(length)}  -`));
      }));

    test.skipIf(Bun.which("ping") === null)("ping is answered (needs the command ping)", () =>
      it.deployment.explain(async () => {
        for (const host of [service.ipv4, service.ipv6]) {
          const output = await must([...agent.prefix, "ping", "-c", "3", "-i", "0.2", host]);
          expect(output).toContain("3 received");
        }
      }),
    );

    test("routes are gone once the agent has stopped, and come back after it was killed", () =>
      it.deployment.explain(async () => {
        await agent.agent.kill();
        agent.agent.start();
        await agent.agent.ready();
        expect((await curl(url("/hello"))).code).toBe(0);

        await agent.agent.stop();

        const routes = await must([...agent.prefix, "ip", "route"]);
        expect(routes).not.toContain("ztna0");
      }));

    function url(path: string): string {
      return `http://${service.ipv4}:${SERVICE_PORTS.http}${path}`;
    }

    function curl(target: string) {
      return run([...agent.prefix, "curl", "-sS", "--max-time", "10", target]);
    }
  },
);
