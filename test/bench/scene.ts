/**
 * Where the benchmarks take place: agent, relay, connector and server, each a host of its own.
 *
 *   agent ── relay ── connector ── server   the way through the tunnel
 *     └────────────────────────────┘        the same two ends without a tunnel
 *
 * And once more with a bad link, which both ways cross:
 *
 *   agent ── 20 ms and 1 % loss each way ── far: relay, connector and server
 */
import { rmSync } from "node:fs";
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
  /** Ends the agent and starts one that knows nothing of earlier sessions. */
  restartAgent(): Promise<void>;
  remove(): Promise<void>;
}

export type LoadResult = Readonly<Record<string, number>>;

/** Which host has which part, and under which address others find it. */
interface Layout {
  build(network: Network): Promise<readonly TestProcess[]>;
  readonly agent: Part;
  readonly relay: Part;
  readonly connector: Part;
  /** As the agent's host sees it. */
  readonly server: Part;
  /** The server as the connector sees it. */
  readonly backend: string;
  readonly serverOptions: readonly string[];
}

interface Part {
  readonly host: string;
  readonly address: string;
}

export const LOCAL: Layout = {
  async build(network) {
    for (const name of ["agent", "relay", "connector", "server"]) await network.addHost(name);
    await network.join(
      { host: "agent", addresses: ["10.0.1.1/24"] },
      { host: "relay", addresses: ["10.0.1.2/24"] },
    );
    await network.join(
      { host: "connector", addresses: ["10.0.4.1/24"] },
      { host: "relay", addresses: ["10.0.4.2/24"] },
    );
    // The relay has one address, whichever way one comes.
    await network.addRoute("connector", "10.0.1.0/24", "10.0.4.2");
    await network.join(
      { host: "connector", addresses: ["10.0.2.1/24"] },
      { host: "server", addresses: ["10.0.2.2/24"] },
    );
    await network.join(
      { host: "agent", addresses: ["10.0.3.1/24"] },
      { host: "server", addresses: ["10.0.3.2/24"] },
    );
    for (const name of ["agent", "relay", "connector", "server"]) {
      await must([...network.prefixOf(name), "sh", "-c", UNPACED]);
    }
    return [];
  },
  agent: { host: "agent", address: "10.0.1.1" },
  relay: { host: "relay", address: "10.0.1.2" },
  connector: { host: "connector", address: "10.0.4.1" },
  server: { host: "server", address: "10.0.3.2" },
  backend: "10.0.2.2",
  serverOptions: [],
};

export const DISTANT: Layout = {
  async build(network) {
    for (const name of ["agent", "far", "link"]) await network.addHost(name);
    const command = [LOAD, "impair", "near0", "far0", "delay-ms=20", "loss-ppm=10000"];
    const link = new TestProcess([...network.prefixOf("link"), ...command], { name: "link" });
    await link.line(/^ready$/, { withinMs: 5000 });
    await network.move("near0", "link", "agent", ["10.0.4.1/24"]);
    await network.move("far0", "link", "far", ["10.0.4.2/24"]);
    return [link];
  },
  agent: { host: "agent", address: "10.0.4.1" },
  relay: { host: "far", address: "10.0.4.2" },
  connector: { host: "far", address: "10.0.4.2" },
  server: { host: "far", address: "10.0.4.2" },
  backend: "10.0.4.2",
  // What the marks were set by.
  serverOptions: ["cubic=1"],
};

export async function buildScene(layout: Layout): Promise<Scene> {
  const network = new Network();
  const deployment = await Deployment.create();
  const others: TestProcess[] = [];
  const remove = async () => {
    await Promise.all(others.map((it) => it.stop("SIGKILL")));
    await deployment.remove();
    await network.remove();
  };
  try {
    others.push(...(await layout.build(network)));
    others.push(await startServer(network, layout));
    const agent = await startRoles(network, deployment, layout);
    let virtual = (await virtualAddresses(deployment, agent, SERVICE)).ipv4;

    const prefix = network.prefixOf(layout.agent.host);
    const measure: Scene["measure"] = async (over, test, options) => {
      const host = over === "bare" ? layout.server.address : virtual;
      const command = [...prefix, LOAD, test, host, `port=${BASE_PORT}`, ...options];
      return JSON.parse(await must(command)) as LoadResult;
    };
    const restartAgent = async () => {
      await agent.stop();
      rmSync(deployment.file(`${agent.spec.name}-state`), { recursive: true, force: true });
      agent.start();
      await agent.ready();
      virtual = (await virtualAddresses(deployment, agent, SERVICE)).ipv4;
    };
    return { roles: deployment.roles, measure, restartAgent, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function startServer(
  network: Network,
  { server, serverOptions }: Layout,
): Promise<TestProcess> {
  const command = [LOAD, "serve", "0.0.0.0", `port=${BASE_PORT}`, ...serverOptions];
  const process = new TestProcess([...network.prefixOf(server.host), ...command], {
    name: "server",
  });
  await process.line(/^ready$/, { withinMs: 5000 });
  return process;
}

/** Returns the agent. */
async function startRoles(network: Network, deployment: Deployment, layout: Layout): Promise<Role> {
  const place = ({ host, address }: Part) => ({ host: address, prefix: network.prefixOf(host) });
  const relayAddress = `${layout.relay.address}:4433`;
  await deployment.issue("relay", "relay", "--host", layout.relay.address);
  await deployment.issue("connector", "connector", "--service", SERVICE);
  await deployment.issue("agent", "agent", "--service", SERVICE);
  const relay = await deployment.add(relaySpec(deployment, relayAddress, place(layout.relay)));
  await relay.ready();

  const port = (protocol: "tcp" | "udp") => (offset: number) => ({
    protocol,
    port: BASE_PORT + offset,
    backend: `${layout.backend}:${BASE_PORT + offset}`,
  });
  const connector = await deployment.add({
    role: "connector",
    name: "connector",
    place: place(layout.connector),
    config: {
      relays: [relayAddress],
      services: [
        { name: SERVICE, ports: [...TCP_PORTS.map(port("tcp")), ...UDP_PORTS.map(port("udp"))] },
      ],
    },
  });
  await connector.ready();

  const agent = await deployment.add({
    ...agentSpec(deployment, "agent", relayAddress, place(layout.agent)),
    arguments: ["--tun", "ztna0"],
  });
  await agent.ready();
  return agent;
}

/**
 * The figures of the marks are those of cubic. A machine whose default is bbr paces also where there
 * is nothing to wait for, which halves what goes without a tunnel; and a namespace may not choose
 * every algorithm of its machine, but always reno, which does the same as cubic where nothing is lost.
 */
const UNPACED =
  "cd /proc/sys/net/ipv4 && { echo cubic >tcp_congestion_control || echo reno >tcp_congestion_control; } 2>/dev/null";
