/** TUN mode without TCP: ping, datagrams of every size, and questions to a real resolver. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  addTunAgent,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { must } from "../support/process.ts";
import { RESOLVED, resolverUnavailable } from "../support/resolver.ts";
import { LONG } from "../support/scale.ts";
import { SERVICE, SERVICE_PORTS } from "../support/simple-deployment.ts";
import { type VirtualAddresses, virtualAddresses } from "../support/virtual-address.ts";

const APPLICATION = new URL("../support/application-main.ts", import.meta.url).pathname;
const DATAGRAM_STEP = LONG ? 1 : 10;
const FAMILIES = ["ipv4", "ipv6"] as const;
const PING_SIZES = [0, 56, 1232, 1400, 4000, 8000];

const unavailable = await namespacesUnavailable();
const noPing = Bun.which("ping") === null ? "needs the command ping" : undefined;
const noResolver = resolverUnavailable();

describe.skipIf(unavailable !== undefined)(
  `datagrams through TUN (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let prefix: readonly string[];
    let service: VirtualAddresses;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      const added = await addTunAgent(it, "alice", "10.0.1.10");
      prefix = added.prefix;
      service = await virtualAddresses(it.deployment, added.agent, SERVICE);
    });
    afterAll(() => removeNamespacedDeployment(it));

    test.skipIf(noPing !== undefined).each(FAMILIES)(
      `ping is answered over %s, above the MTU too (${noPing ?? "all sizes"})`,
      (family) =>
        it.deployment.explain(async () => {
          for (const size of PING_SIZES) {
            const flags = ["-c", "3", "-i", "0.2", "-W", "2", "-s", String(size)];
            const output = await must([...prefix, "ping", ...flags, service[family]]);
            expect(output).toContain("3 received");
          }
        }),
    );

    test.each(FAMILIES)("datagrams of every size come back over %s as they were", (family) =>
      it.deployment.explain(async () => {
        const use = ["datagrams", service[family], SERVICE_PORTS.udp, DATAGRAM_STEP].map(String);

        expect(await must([...prefix, process.execPath, APPLICATION, ...use])).toBe("ok\n");
      }),
    );

    test.skipIf(noResolver !== undefined).each(
      FAMILIES.flatMap((family) => [
        { family, transport: "+notcp" },
        { family, transport: "+tcp" },
      ]),
    )(`a resolver is asked over $family, $transport (${noResolver ?? "dnsmasq"})`, (row) =>
      it.deployment.explain(async () => {
        const { name, ipv4, ipv6 } = RESOLVED;
        const dig = ["dig", "+short", "+tries=3", "+time=2", row.transport];
        const ask = (type: string) =>
          must([...prefix, ...dig, `@${service[row.family]}`, name, type]);

        expect([await ask("A"), await ask("AAAA")]).toEqual([`${ipv4}\n`, `${ipv6}\n`]);
      }),
    );
  },
);
