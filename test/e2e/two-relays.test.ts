/** An agent and a connector with two relays: one tunnel with two relayed paths. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { AgentStatus, TunnelStatus } from "../../src/agent/status.ts";
import { Deployment, HERE, type Role, ZTNA } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { patternDigest } from "../support/pattern.ts";
import { freePort } from "../support/ports.ts";
import { must, run } from "../support/process.ts";
import {
  agentSpec,
  connectorSpec,
  listenersOf,
  relaySpec,
  SERVICE,
} from "../support/simple-deployment.ts";
import { UdpClient } from "../support/udp-client.ts";

const LENGTH = 30_000_000;
/** Both sides leave a silent path on loopback within some tens of milliseconds. */
const GAP_MS_MAX = 700;
const INTERVAL_MS = 5;

let deployment: Deployment;
const addresses: string[] = [];
const relays: Role[] = [];
let connector: Role;
let agent: Role;
let forwards: Record<"http" | "digest" | "echo" | "udp", number>;

beforeAll(async () => {
  deployment = await Deployment.create();
  for (const name of ["relay-1", "relay-2"]) {
    const address = `${HERE.host}:${await freePort()}`;
    await deployment.issue("relay", name, "--host", HERE.host);
    const relay = await deployment.add(relaySpec(deployment, address, HERE, name));
    await relay.ready();
    addresses.push(address);
    relays.push(relay);
  }
  await deployment.issue("connector", "connector", "--service", SERVICE);
  await deployment.issue("agent", "alice", "--service", SERVICE);
  const backend = await deployment.addBackend();
  connector = await deployment.add(connectorSpec(addresses, backend));
  await connector.ready();
  const [http, digest, echo, udp, socks] = await Promise.all(Array.from({ length: 5 }, freePort));
  forwards = { http, digest, echo, udp } as typeof forwards;
  agent = await deployment.add({
    ...agentSpec(deployment, "alice", addresses),
    arguments: listenersOf(forwards, socks ?? 0),
  });
  await agent.ready();
  await must(["curl", "-sS", "--max-time", "10", `http://127.0.0.1:${forwards.http}/hello`]);
});
afterAll(() => deployment.remove());

describe("two relays", () => {
  test("the tunnel has a path over each", () =>
    deployment.explain(async () => {
      const tunnel = await bothPaths();

      expect(tunnel.paths.map(({ path }) => path.address).sort()).toEqual([...addresses].sort());
      expect(tunnel.paths.filter(({ selected }) => selected)).toHaveLength(1);
    }));

  test("a download goes on when the relay that carries it is killed, and nothing is lost", () =>
    deployment.explain(async () => {
      await bothPaths();
      const url = `http://127.0.0.1:${forwards.http}/bytes/${LENGTH}`;
      const curl = `set -o pipefail; curl -sS --limit-rate 10M --max-time 30 ${url} | sha256sum`;
      const download = run(["bash", "-c", curl]);
      await Bun.sleep(1000);

      const restart = await killSelected();

      expect(await download).toEqual({
        code: 0,
        stdout: `${patternDigest(LENGTH)}  -\n`,
        stderr: "",
      });
      await restart();
    }));

  test("datagrams pause for a moment when the relay that carries them is killed", () =>
    deployment.explain(async () => {
      await bothPaths();
      const client = await UdpClient.open("127.0.0.1", forwards.udp);
      await client.echo(Buffer.from("ready"));
      const arrivals = steadyEcho(client, 2000);
      await Bun.sleep(700);

      const restart = await killSelected();

      const { sent, received, gapMs } = await arrivals;
      client.close();
      expect(gapMs).toBeLessThan(GAP_MS_MAX);
      // What was under way is sent again on the other path.
      expect(sent - received).toBeLessThanOrEqual(1);
      await restart();
    }));
});

/** Kills the relay whose path is selected; the function that is returned starts it again. */
async function killSelected(): Promise<() => Promise<void>> {
  const [tunnel] = (await status()).tunnels;
  const selected = tunnel?.paths.find((it) => it.selected)?.path.address ?? "";
  const relay = relays[addresses.indexOf(selected)];
  if (relay === undefined) throw new Error(`no relay at "${selected}"`);
  await relay.kill();
  return async () => {
    relay.start();
    await relay.ready();
  };
}

/** Waits until the tunnel has proven its path over either relay. */
function bothPaths(): Promise<TunnelStatus> {
  return eventually("two proven paths", { withinMs: 15_000, everyMs: 100 }, async () => {
    const [tunnel] = (await status()).tunnels;
    const proven = tunnel?.paths.filter(({ state }) => state === "proven") ?? [];
    return proven.length === 2 ? tunnel : undefined;
  });
}

async function status(): Promise<AgentStatus> {
  const socket = deployment.file("alice.sock");
  return JSON.parse(await must([ZTNA, "status", "--json", "--control-socket", socket]));
}

/** Sends at a steady rate and tells what came back and the longest time in which nothing did. */
async function steadyEcho(client: UdpClient, forMs: number) {
  const before = client.received.length;
  const startedAt = performance.now();
  let [sent, seen, lastAt, gapMs] = [0, before, startedAt, 0];
  const look = () => {
    if (client.received.length === seen) return;
    const now = performance.now();
    gapMs = Math.max(gapMs, now - lastAt);
    [seen, lastAt] = [client.received.length, now];
  };
  while (performance.now() - startedAt < forMs) {
    client.send(Buffer.from(`number ${sent}`));
    sent += 1;
    await Bun.sleep(INTERVAL_MS);
    look();
  }
  await Bun.sleep(500);
  look();
  return { sent, received: client.received.length - before, gapMs };
}
