/**
 * Clients of a relay, in a process of their own that ends when it is killed.
 *
 *   legs-main.ts idle RELAY DIRECTORY      legs that say nothing; reads how many from standard input
 *   legs-main.ts channels RELAY DIRECTORY  1,024 channels between 32 agents and 32 connectors
 *
 * DIRECTORY is that of the authority. Prints one JSON object a step. Killed without a goodbye, it
 * leaves the relay with legs and channels whose addresses others may take over for half a minute.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Authority, issue, readAuthority } from "../../src/pki/authority.ts";
import { DAYS_BY_ROLE, profileOf } from "../../src/pki/certificate-profile.ts";
import type { TlsMaterial } from "../../src/transport/endpoint.ts";
import { type BenchLeg, LegClient } from "./leg-client.ts";

/** Under the relay's 20 handshakes a second and source, with room for its burst. */
const CLIENTS = 100;
const PEERS = 32;
const SERVICE = "load";

const [mode, relay = "", directory = ""] = process.argv.slice(2);
const rootsPem = readFileSync(join(directory, "ca.crt"));
const authority = await readAuthority(
  { certificatePem: rootsPem.toString(), keyPem: readFileSync(join(directory, "ca.key"), "utf8") },
  new Date(),
);
await (mode === "channels" ? openChannels() : openIdleLegs());
// The data planes live on their own threads.
setInterval(() => undefined, 60_000);

async function openIdleLegs(): Promise<void> {
  const clients = Array.from(
    { length: CLIENTS },
    (_, at) => new LegClient("agent", `127.0.1.${at + 1}:0`),
  );
  let identities = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const welcomes: number[] = [];
    while (identities * CLIENTS < Number(line)) {
      const tls = await material(authority, "agent", `idle-${identities}`);
      const legs = await Promise.all(clients.map((it) => it.openLeg(tls, relay)));
      welcomes.push(...legs.map((it) => it.welcomeMs));
      identities += 1;
    }
    tell({ legs: identities * CLIENTS });
  }
}

async function openChannels(): Promise<void> {
  const agentTls = await material(authority, "agent", "agents");
  const connectorTls = await material(authority, "connector", "connectors");
  const agents = await openPeers("agent", agentTls);
  const connectors = await openPeers("connector", connectorTls);
  for (const { leg } of connectors) {
    const ports = [{ protocol: "tcp", port: 80 }] as const;
    const services = [{ name: SERVICE, ports, weight: 100 }];
    await leg.request({ type: "register", services, sessions: [], revocationsSeen: 0 });
  }

  const channels: Record<string, string>[] = [];
  for (const connector of connectors) {
    // One request of each agent at a time: their rate of frames is limited.
    const opened = await Promise.all(agents.map((it) => openChannel(it, connector)));
    channels.push(...opened);
  }
  const samples = [...agents, ...connectors].map((it) => it.leg);
  tell({
    channels,
    handshakeMs: samples.map((it) => it.handshakeMs),
    welcomeMs: samples.map((it) => it.welcomeMs),
  });
}

interface Peer {
  readonly client: LegClient;
  readonly leg: BenchLeg;
}

/** One after the other, so that their handshakes can be timed. */
async function openPeers(role: "agent" | "connector", tls: TlsMaterial): Promise<Peer[]> {
  const net = role === "agent" ? 1 : 2;
  const peers: Peer[] = [];
  for (let at = 1; at <= PEERS; at += 1) {
    const client = new LegClient(role, `127.0.${net}.${at}:0`);
    peers.push({ client, leg: await client.openLeg(tls, relay) });
  }
  return peers;
}

async function openChannel(agent: Peer, connector: Peer): Promise<Record<string, string>> {
  const answer = await agent.leg.request({
    type: "session-open",
    service: SERVICE,
    channelId: agent.client.issueChannelId(),
    connector: connector.leg.instance,
    avoid: [],
  });
  if (answer.type !== "session-open-ok") throw new Error(`answered ${answer.type}`);
  const [path] = answer.paths;
  if (path === undefined) throw new Error("a session without a path");
  return { from: agent.client.address, to: connector.client.address, id: path.channel };
}

async function material(
  of: Authority,
  role: "agent" | "connector",
  name: string,
): Promise<TlsMaterial> {
  const { trustDomain } = of;
  const days = DAYS_BY_ROLE[role];
  const request = { role, name, trustDomain, services: [SERVICE], hosts: [], days };
  const pair = await issue(of, profileOf(request), new Date());
  const [chainPem, keyPem] = [Buffer.from(pair.certificatePem), Buffer.from(pair.keyPem)];
  return { chainPem, keyPem, rootsPem, revoked: [] };
}

function tell(what: unknown): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}
