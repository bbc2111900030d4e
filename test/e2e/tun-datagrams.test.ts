/** TUN mode without TCP: ping, datagrams of every size, and questions to a real resolver. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  addTunAgent,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { resolverUnavailable } from "../support/resolver.ts";
import { LONG } from "../support/scale.ts";
import { SERVICE } from "../support/simple-deployment.ts";
import { FAMILIES, TunnelUses } from "../support/tunnel-uses.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

const DATAGRAM_STEP = LONG ? 1 : 10;
const PING_STEP = LONG ? 1 : 100;

const unavailable = await namespacesUnavailable();
const noPing = Bun.which("ping") === null ? "needs the command ping" : undefined;
const noResolver = resolverUnavailable();

describe.skipIf(unavailable !== undefined)(
  `datagrams through TUN (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;
    let uses: TunnelUses;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
      const { agent, prefix } = await addTunAgent(it, "alice", "10.0.1.10");
      uses = new TunnelUses(prefix, await virtualAddresses(it.deployment, agent, SERVICE));
    });
    afterAll(() => removeNamespacedDeployment(it));

    test.skipIf(noPing !== undefined).each(FAMILIES)(
      `ping is answered over %s, from nothing to far above the MTU (${noPing ?? "0 to 8,000 octets"})`,
      (family) =>
        it.deployment.explain(async () => {
          expect(await uses.pings(family, PING_STEP)).toBe("");
        }),
    );

    test.each(FAMILIES)("datagrams of every size come back over %s as they were", (family) =>
      it.deployment.explain(async () => {
        expect(await uses.datagrams(family, DATAGRAM_STEP)).toBe("ok\n");
      }),
    );

    test
      .skipIf(noResolver !== undefined)
      .each(
        FAMILIES.flatMap((family) => [
          { family, transport: "+notcp" } as const,
          { family, transport: "+tcp" } as const,
        ]),
      )(
      `a resolver is asked over $family, $transport (${noResolver ?? "dnsmasq"})`,
      ({ family, transport }) => it.deployment.explain(() => uses.resolve(family, transport)),
    );
  },
);
