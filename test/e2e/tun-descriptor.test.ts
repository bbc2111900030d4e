/** An agent that inherits the descriptor of a TUN device that somebody else made and configured. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  FOREIGN_TUNNEL,
  type NamespacedDeployment,
  removeNamespacedDeployment,
  startNamespacedDeployment,
} from "../support/namespaced-deployment.ts";
import { namespacesUnavailable } from "../support/netns.ts";
import { must } from "../support/process.ts";
import { LONG, scaled } from "../support/scale.ts";
import { agentSpec, SERVICE } from "../support/simple-deployment.ts";
import { FAMILIES, TunnelUses } from "../support/tunnel-uses.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

const DEVICE = "vpn0";
const BIG = scaled(64 * 1024 ** 2);
const DATAGRAM_STEP = LONG ? 1 : 50;
const PING_STEP = LONG ? 50 : 1000;
/** Opens the device as descriptor 3 (TUNSETIFF, IFF_TUN | IFF_NO_PI) and becomes the agent. */
const OWNER = `
  if ($ARGV[1] eq "agent") {
    $^F = 3;
    open(my $tun, "+<", "/dev/net/tun") or die "open: $!";
    die "not descriptor 3" if fileno($tun) != 3;
    my $request = pack("a16 s x22", "${DEVICE}", 0x1001);
    ioctl($tun, 0x400454ca, $request) or die "ioctl: $!";
    exec @ARGV;
  }
  exec @ARGV;
`;

const unavailable =
  (await namespacesUnavailable()) ??
  (Bun.which("perl") === null ? "needs the command perl" : undefined);

describe.skipIf(unavailable !== undefined)(
  `an inherited TUN device (${unavailable ?? "in namespaces"})`,
  () => {
    let it: NamespacedDeployment;

    beforeAll(async () => {
      it = await startNamespacedDeployment();
    });
    afterAll(() => removeNamespacedDeployment(it));

    test("carries all that a TUN device does, and is left as its owner configured it", () =>
      it.deployment.explain(async () => {
        const { deployment, network, relayAddress } = it;
        const host = await network.addHost("alice");
        await network.plug("alice", "wan", ["10.0.1.10/24"]);
        await network.addTun("alice", DEVICE, FOREIGN_TUNNEL);
        await deployment.issue("agent", "alice", "--service", SERVICE);
        const place = { host: "10.0.1.10", prefix: [...host, "perl", "-e", OWNER] };
        const spec = agentSpec(deployment, "alice", relayAddress, place);
        // Its own route would look like a network of the host's, which a pool must avoid.
        const config = { ...spec.config, pins: { [SERVICE]: { ipv4: "10.100.0.9" } } };
        const agent = await deployment.add({ ...spec, config, arguments: ["--tun-fd", "3"] });
        await agent.ready();
        const service = await virtualAddresses(deployment, agent, SERVICE);
        expect(service.ipv4).toBe("10.100.0.9");

        const uses = new TunnelUses(host, service);
        for (const family of FAMILIES) {
          expect(await uses.page(family)).toBe("hello from the backend\n");
          await uses.transfer(family, BIG);
          await uses.conversation(family);
          expect(await uses.pings(family, PING_STEP)).toBe("");
          await uses.datagrams(family, DATAGRAM_STEP);
        }
        await agent.stop();

        const addresses = await must([...host, "ip", "address", "show", DEVICE]);
        expect(addresses).toContain("10.99.0.1/32");
        expect(addresses).not.toContain("fd7a:7a74:6e61");
      }));
  },
);
