/**
 * Agent, relay, connector and backend, each a host of its own.
 *
 *   agents ── wan ── relay       the backend is joined with the connector alone: what reaches it
 *              └──── connector ── backend           has come through the tunnel
 */
import type { Backend } from "./backend.ts";
import { Deployment, type Place, type Role } from "./deployment.ts";
import { Network, type Tunnel } from "./netns.ts";
import { resolverUnavailable } from "./resolver.ts";
import { agentSpec, connectorSpec, relaySpec, SERVICE } from "./simple-deployment.ts";

export interface NamespacedDeployment {
  readonly deployment: Deployment;
  readonly network: Network;
  readonly relay: Role;
  readonly connector: Role;
  readonly backend: Backend;
  readonly places: Readonly<Record<"relay" | "connector" | "backend", Place>>;
  readonly relayAddress: string;
}

export async function startNamespacedDeployment(): Promise<NamespacedDeployment> {
  const network = new Network();
  const deployment = await Deployment.create();
  try {
    return await start(deployment, network);
  } catch (error) {
    await removeNamespacedDeployment({ deployment, network });
    throw error;
  }
}

export async function removeNamespacedDeployment({
  deployment,
  network,
}: Pick<NamespacedDeployment, "deployment" | "network">): Promise<void> {
  await deployment.remove();
  await network.remove();
}

/** A tunnel that somebody else than the agent configures, as `docs/packets.md` says. */
export const FOREIGN_TUNNEL: Tunnel = {
  mtu: 1280,
  addresses: ["10.99.0.1/32", "2001:db8:99::1/128"],
  routes: ["10.100.0.0/16", "fd7a:7a74:6e61::/48"],
};

/** Adds an agent on a host of its own, with a TUN device and a certificate for the service. */
export async function addTunAgent(
  { deployment, network, relayAddress }: NamespacedDeployment,
  name: string,
  address: string,
): Promise<{ readonly agent: Role; readonly prefix: readonly string[] }> {
  const prefix = await network.addHost(name);
  await network.plug(name, "wan", [`${address}/24`]);
  await deployment.issue("agent", name, "--service", SERVICE);
  const spec = agentSpec(deployment, name, relayAddress, { host: address, prefix });
  const agent = await deployment.add({ ...spec, arguments: ["--tun", "ztna0"] });
  await agent.ready();
  return { agent, prefix };
}

async function start(deployment: Deployment, network: Network): Promise<NamespacedDeployment> {
  await network.addSwitch("wan");
  const places = {
    relay: { host: "10.0.1.2", prefix: await network.addHost("relay") },
    connector: { host: "10.0.1.3", prefix: await network.addHost("connector") },
    backend: { host: "10.0.2.2", prefix: await network.addHost("backend") },
  };
  await network.plug("relay", "wan", ["10.0.1.2/24"]);
  await network.plug("connector", "wan", ["10.0.1.3/24"]);
  await network.join(
    { host: "connector", addresses: ["10.0.2.1/24"] },
    { host: "backend", addresses: ["10.0.2.2/24"] },
  );

  await deployment.issue("relay", "relay", "--host", places.relay.host);
  await deployment.issue("connector", "connector", "--service", SERVICE);
  const backend = await deployment.addBackend(places.backend);
  const relayAddress = `${places.relay.host}:4433`;
  const relay = await deployment.add(relaySpec(deployment, relayAddress, places.relay));
  await relay.ready();
  const resolver =
    resolverUnavailable() === undefined ? await deployment.addResolver(places.backend) : undefined;
  const connector = await deployment.add(
    connectorSpec(relayAddress, backend, places.connector, resolver),
  );
  await connector.ready();
  return { deployment, network, relay, connector, backend, places, relayAddress };
}
