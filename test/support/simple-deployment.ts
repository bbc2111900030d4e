/** The deployment that most tests want: one of each role on loopback, and an agent without TUN. */
import type { Backend } from "./backend.ts";
import { Deployment, HERE, type Place, type Role, type RoleSpec } from "./deployment.ts";
import { freePort } from "./ports.ts";
import type { Resolver } from "./resolver.ts";

export interface SimpleDeployment {
  readonly deployment: Deployment;
  readonly relay: Role;
  readonly relayAddress: string;
  readonly connector: Role;
  readonly agent: Role;
  readonly backend: Backend;
  /** Local ports of the agent that lead to the ports of the service. */
  readonly forwards: Readonly<Record<"http" | "digest" | "echo" | "udp", number>>;
  readonly socks: { readonly host: string; readonly port: number };
  readonly controlSocket: string;
}

/** The service's own ports, whatever the backend's are. */
export const SERVICE_PORTS = { http: 80, digest: 7001, echo: 7, udp: 7, dns: 53 } as const;

export const SERVICE = "echo-service";

export interface SimpleDeploymentOptions {
  /** Is called with what is done next. */
  readonly tell?: (what: string) => void;
  /** Goes before a random ending into the name of the temporary directory. */
  readonly directoryPrefix?: string;
  /** Whether the service has a DNS resolver too. */
  readonly withResolver?: boolean;
}

export async function startSimpleDeployment(
  options: SimpleDeploymentOptions = {},
): Promise<SimpleDeployment> {
  options.tell?.("a throw-away authority and a certificate for each role");
  const deployment = await Deployment.create(options.directoryPrefix);
  try {
    return await start(deployment, options);
  } catch (error) {
    await deployment.remove();
    throw error;
  }
}

async function start(
  deployment: Deployment,
  { tell = () => undefined, withResolver = false }: SimpleDeploymentOptions,
): Promise<SimpleDeployment> {
  await deployment.issue("relay", "relay", "--host", HERE.host);
  await deployment.issue("connector", "connector", "--service", SERVICE);
  await deployment.issue("agent", "alice", "--service", SERVICE);
  tell("an HTTP service and a UDP service");
  const backend = await deployment.addBackend();

  const relayAddress = `${HERE.host}:${await freePort()}`;
  tell(`a relay at ${relayAddress}`);
  const relay = await deployment.add(relaySpec(deployment, relayAddress));
  await relay.ready();
  tell("a connector in front of the services");
  const resolver = withResolver ? await deployment.addResolver() : undefined;
  const spec = connectorSpec(relayAddress, backend, HERE, resolver);
  // A port of its own, as an operator's has: it is the same one after a restart.
  const listen = [`${HERE.host}:${await freePort()}`];
  const connector = await deployment.add({ ...spec, config: { ...spec.config, listen } });
  await connector.ready();

  const forwards = {
    http: await freePort(),
    digest: await freePort(),
    echo: await freePort(),
    udp: await freePort(),
  };
  const socks = { host: HERE.host, port: await freePort() };
  tell("an agent, without root and without TUN");
  const agent = await deployment.add({
    ...agentSpec(deployment, "alice", relayAddress),
    arguments: listenersOf(forwards, socks.port),
  });
  await agent.ready();
  const controlSocket = deployment.file("alice.sock");
  return {
    deployment,
    relay,
    relayAddress,
    connector,
    agent,
    backend,
    forwards,
    socks,
    controlSocket,
  };
}

export function relaySpec(
  deployment: Deployment,
  listen: string,
  place: Place = HERE,
  name = "relay",
): RoleSpec {
  return {
    role: "relay",
    name,
    place,
    config: { listen: [listen], dataDir: deployment.file(`${name}-data`) },
  };
}

export function connectorSpec(
  relays: string | readonly string[],
  backend: Backend,
  place: Place = HERE,
  resolver?: Resolver,
) {
  const { http, digest, echo, udp } = backend.ports;
  const at = (protocol: "tcp" | "udp", port: number, backendPort: number, to = backend.host) => ({
    protocol,
    port,
    backend: `${to}:${backendPort}`,
  });
  const dns =
    resolver === undefined
      ? []
      : [at("udp", 53, resolver.port, resolver.host), at("tcp", 53, resolver.port, resolver.host)];
  return {
    role: "connector",
    name: "connector",
    place,
    config: {
      relays: [relays].flat(),
      listen: [`${place.host}:0`],
      services: [
        {
          name: SERVICE,
          ports: [
            at("tcp", SERVICE_PORTS.http, http),
            at("tcp", SERVICE_PORTS.digest, digest),
            at("tcp", SERVICE_PORTS.echo, echo),
            at("udp", SERVICE_PORTS.udp, udp),
            ...dns,
          ],
        },
      ],
    },
  } as const;
}

/** An agent that reaches nothing until it is given listeners. */
export function agentSpec(
  deployment: Deployment,
  name: string,
  relays: string | readonly string[],
  place: Place = HERE,
): RoleSpec {
  return {
    role: "agent",
    name,
    place,
    config: {
      relays: [relays].flat(),
      controlSocket: deployment.file(`${name}.sock`),
      stateDir: deployment.file(`${name}-state`),
    },
  };
}

export function listenersOf(forwards: SimpleDeployment["forwards"], socksPort: number): string[] {
  return [
    ...["--forward", `${forwards.http}=${SERVICE}:${SERVICE_PORTS.http}`],
    ...["--forward", `${forwards.digest}=${SERVICE}:${SERVICE_PORTS.digest}`],
    ...["--forward", `${forwards.echo}=${SERVICE}:${SERVICE_PORTS.echo}`],
    ...["--forward", `${forwards.udp}/udp=${SERVICE}:${SERVICE_PORTS.udp}`],
    ...["--socks", `${HERE.host}:${socksPort}`],
  ];
}
