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
import { must } from "../support/process.ts";
import { LONG, scaled } from "../support/scale.ts";
import { SERVICE } from "../support/simple-deployment.ts";
import { FAMILIES, TunnelUses } from "../support/tunnel-uses.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

const BIG = scaled(1024 ** 3);
const PARALLEL = scaled(200);
/** Longer than a tunnel may be idle; a shorter run shows the application's part alone. */
const SILENT_SECONDS = LONG ? 200 : 20;

const unavailable = await namespacesUnavailable();

describe.skipIf(unavailable !== undefined)(
  `an agent with TUN (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let agent: { readonly agent: Role; readonly prefix: readonly string[] };
    let uses: TunnelUses;
    /** Runs beside the other tests, since nothing happens in it. */
    let silence: Promise<readonly string[]>;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      agent = await addTunAgent(it, "alice", "10.0.1.10");
      uses = new TunnelUses(
        agent.prefix,
        await virtualAddresses(it.deployment, agent.agent, SERVICE),
      );
      silence = Promise.all(FAMILIES.map((family) => uses.silence(family, SILENT_SECONDS)));
      // What fails is told by the test that waits for it.
      silence.catch(() => undefined);
    });
    afterAll(() => removeNamespacedDeployment(it));

    test.each(FAMILIES)("curl gets a page over %s", (family) =>
      it.deployment.explain(async () => {
        expect(await uses.page(family)).toBe("hello from the backend\n");
      }),
    );

    test.each(FAMILIES)("a big download and a big upload arrive whole over %s", (family) =>
      it.deployment.explain(() => uses.transfer(family, BIG)),
    );

    test.each(FAMILIES)("many downloads side by side arrive whole over %s", (family) =>
      it.deployment.explain(async () => {
        expect(await uses.parallel(family, PARALLEL, 1_000_000)).toBe(PARALLEL);
      }),
    );

    test.each(FAMILIES)("a long conversation keeps its order and half-closes over %s", (family) =>
      it.deployment.explain(() => uses.conversation(family)),
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
        expect(await uses.page("ipv4")).toBe("hello from the backend\n");
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
  },
);
