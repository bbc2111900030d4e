/** An agent that takes IP packets from a program over a Unix socket. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Role } from "../support/deployment.ts";
import { PacketShim } from "../support/packet-shim.ts";
import {
  agentSpec,
  SERVICE,
  SERVICE_PORTS,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

const OWN_ADDRESS = "10.0.0.1";

let it: SimpleDeployment;
let agent: Role;
let ipv4: string;
let shim: PacketShim;

beforeAll(async () => {
  it = await startSimpleDeployment();
  const { deployment } = it;
  await deployment.issue("agent", "bob", "--service", SERVICE);
  const socket = deployment.file("packets.sock");
  const spec = agentSpec(deployment, "bob", it.relayAddress);
  agent = await deployment.add({ ...spec, arguments: ["--packets", `unix:${socket}`] });
  await agent.ready();
  ({ ipv4 } = await virtualAddresses(deployment, agent, SERVICE));
  shim = await PacketShim.attach(socket, OWN_ADDRESS);
});
afterAll(async () => {
  shim.close();
  await it.deployment.remove();
});

describe("packets over a Unix socket", () => {
  test("an echo request is answered by the service's address", () =>
    it.deployment.explain(async () => {
      const payload = Buffer.from("are you there");

      shim.sendEcho(ipv4, payload);

      expect(await shim.answer("icmp", ipv4)).toEqual(payload);
    }));

  test("a datagram comes back from the port that it was sent to", () =>
    it.deployment.explain(async () => {
      const payload = Buffer.alloc(1200, 7);

      shim.sendDatagram(ipv4, SERVICE_PORTS.udp, payload);

      expect(await shim.answer("udp", ipv4)).toEqual(payload);
    }));
});
