/**
 * Where the benchmarks take place: agent, relay, connector and server, each a host of its own.
 *
 *   agent ── wan ── relay, connector        server ── connector: the way through the tunnel
 *     └───────────── server                 the same two ends without a tunnel
 */
import { Deployment, type Role } from "../support/deployment.ts";
import { Network } from "../support/netns.ts";
import { must, TestProcess } from "../support/process.ts";
import { agentSpec, relaySpec } from "../support/simple-deployment.ts";
import { virtualAddresses } from "../support/virtual-address.ts";

export const LOAD = "native/target/release/ztna-load";
const SERVICE = "load";
const BASE_PORT = 5200;
const TCP_PORTS = [0, 1, 2, 3, 4, 7];
const UDP_PORTS = [5, 6];

export interface Scene {
  readonly roles: readonly Role[];
  /** Runs one test of the load generator and returns its result. */
  measure(over: "bare" | "tunnel", test: string, options: readonly string[]): Promise<LoadResult>;
  remove(): Promise<void>;
}

export type LoadResult = Readonly<Record<string, number>>;

export async function buildScene(): Promise<Scene> {
  const network = new Network();
  const deployment = await Deployment.create();
  const servers: TestProcess[] = [];
  const remove = async () => {
    await Promise.all(servers.map((it) => it.stop("SIGKILL")));
    await deployment.remove();
    await network.remove();
  };
  try {
    const agentPrefix = await plugHosts(network, deployment);
    servers.push(await startServer(network));
    const virtual = await startRoles(network, deployment);
    const hosts = { bare: "10.0.3.2", tunnel: virtual };
    const measure: Scene["measure"] = async (over, test, options) => {
      const command = [...agentPrefix, LOAD, test, hosts[over], `port=${BASE_PORT}`, ...options];
      return JSON.parse(await must(command)) as LoadResult;
    };
    return { roles: deployment.roles, measure, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function plugHosts(network: Network, deployment: Deployment): Promise<readonly string[]> {
  await network.addSwitch("wan");
  const agent = await network.addHost("agent");
  for (const name of ["relay", "connector", "server"]) await network.addHost(name);
  await network.plug("agent", "wan", ["10.0.1.1/24"]);
  await network.plug("relay", "wan", ["10.0.1.2/24"]);
  await network.plug("connector", "wan", ["10.0.1.3/24"]);
  await network.join(
    { host: "connector", addresses: ["10.0.2.1/24"] },
    { host: "server", addresses: ["10.0.2.2/24"] },
  );
  await network.join(
    { host: "agent", addresses: ["10.0.3.1/24"] },
    { host: "server", addresses: ["10.0.3.2/24"] },
  );
  await deployment.issue("relay", "relay", "--host", "10.0.1.2");
  await deployment.issue("connector", "connector", "--service", SERVICE);
  await deployment.issue("agent", "agent", "--service", SERVICE);
  return agent;
}

async function startServer(network: Network): Promise<TestProcess> {
  const command = [...network.prefixOf("server"), LOAD, "serve", "0.0.0.0", `port=${BASE_PORT}`];
  const server = new TestProcess(command, { name: "server" });
  await server.line(/^ready$/, { withinMs: 5000 });
  return server;
}

/** Returns the address at which the agent's applications find the server. */
async function startRoles(network: Network, deployment: Deployment): Promise<string> {
  const at = (name: string, host: string) => ({ host, prefix: network.prefixOf(name) });
  const relayAddress = "10.0.1.2:4433";
  const relay = await deployment.add(relaySpec(deployment, relayAddress, at("relay", "10.0.1.2")));
  await relay.ready();

  const port = (protocol: "tcp" | "udp") => (offset: number) => ({
    protocol,
    port: BASE_PORT + offset,
    backend: `10.0.2.2:${BASE_PORT + offset}`,
  });
  const connector = await deployment.add({
    role: "connector",
    name: "connector",
    place: at("connector", "10.0.1.3"),
    config: {
      relays: [relayAddress],
      services: [
        { name: SERVICE, ports: [...TCP_PORTS.map(port("tcp")), ...UDP_PORTS.map(port("udp"))] },
      ],
    },
  });
  await connector.ready();

  const agent = await deployment.add({
    ...agentSpec(deployment, "agent", relayAddress, at("agent", "10.0.1.1")),
    arguments: ["--tun", "ztna0"],
  });
  await agent.ready();
  return (await virtualAddresses(deployment, agent, SERVICE)).ipv4;
}
