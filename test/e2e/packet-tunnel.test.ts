/**
 * A program's packet tunnel on a host that has no other network: its applications reach the service by
 * the packets that the agent takes from the program, and by nothing else.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  FOREIGN_TUNNEL,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { TestProcess } from "../support/process.ts";
import { resolverUnavailable } from "../support/resolver.ts";
import { LONG, scaled } from "../support/scale.ts";
import { agentSpec, SERVICE } from "../support/simple-deployment.ts";
import { FAMILIES, TunnelUses } from "../support/tunnel-uses.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

const BRIDGE = new URL("../support/packet-bridge-main.ts", import.meta.url).pathname;
const DEVICE = "shim0";
const BIG = scaled(64 * 1024 ** 2);
const DATAGRAM_STEP = LONG ? 1 : 50;
const PING_STEP = LONG ? 50 : 1000;

const unavailable = await namespacesUnavailable();
const noPing = Bun.which("ping") === null ? "needs the command ping" : undefined;
const noResolver = resolverUnavailable();

describe.skipIf(unavailable !== undefined)(
  `a packet tunnel over a Unix socket (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let uses: TunnelUses;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      const { deployment, network, relayAddress } = it;
      const prefix = await network.addHost("alice");
      await network.plug("alice", "wan", ["10.0.1.10/24"]);
      await deployment.issue("agent", "alice", "--service", SERVICE);
      const socket = deployment.file("packets.sock");
      const spec = agentSpec(deployment, "alice", relayAddress, { host: "10.0.1.10", prefix });
      const agent = await deployment.add({ ...spec, arguments: ["--packets", `unix:${socket}`] });
      await agent.ready();

      const phone = await network.addHost("phone");
      await network.addTun("phone", DEVICE, FOREIGN_TUNNEL);
      const command = [...phone, process.execPath, BRIDGE, DEVICE, socket];
      const bridge = new TestProcess(command, { name: "bridge" });
      deployment.keep(bridge);
      await bridge.line(/^ready/, { withinMs: 10_000 });
      uses = new TunnelUses(phone, await virtualAddresses(deployment, agent, SERVICE));
    });
    afterAll(() => removeNamespacedDeployment(it));

    test.each(FAMILIES)("curl gets a page over %s", (family) =>
      it.deployment.explain(async () => {
        expect(await uses.page(family)).toBe("hello from the backend\n");
      }),
    );

    test.each(FAMILIES)("a download and an upload arrive whole over %s", (family) =>
      it.deployment.explain(() => uses.transfer(family, BIG)),
    );

    test.each(FAMILIES)("a long conversation keeps its order and half-closes over %s", (family) =>
      it.deployment.explain(() => uses.conversation(family)),
    );

    test.each(FAMILIES)("datagrams of every size come back over %s as they were", (family) =>
      it.deployment.explain(async () => {
        expect(await uses.datagrams(family, DATAGRAM_STEP)).toBe("ok\n");
      }),
    );

    test.skipIf(noPing !== undefined).each(FAMILIES)(
      `ping is answered over %s (${noPing ?? "0 to 8,000 octets"})`,
      (family) =>
        it.deployment.explain(async () => {
          expect(await uses.pings(family, PING_STEP)).toBe("");
        }),
    );

    test.skipIf(noResolver !== undefined).each(FAMILIES)(
      `a resolver is asked over %s (${noResolver ?? "dnsmasq"})`,
      (family) => it.deployment.explain(() => uses.resolve(family, "+notcp")),
    );
  },
);
