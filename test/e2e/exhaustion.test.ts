/** Bad backends, many flows, no descriptor, no room on the disk: what is left goes on. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import type { Backend } from "../support/backend.ts";
import { type BadBackends, startBadBackends } from "../support/bad-backends.ts";
import { Deployment, HERE, type Place, type Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/ports.ts";
import { run } from "../support/process.ts";
import { descriptorsOf, residentMib } from "../support/resources.ts";
import { scaled } from "../support/scale.ts";
import { agentSpec, relaySpec, SERVICE, SERVICE_PORTS } from "../support/simple-deployment.ts";
import { TcpClient } from "../support/tcp-client.ts";

/** Ports of the service that lead to bad backends. */
const BAD = { refuses: 101, hangs: 102, resets: 103, neverReads: 104 } as const;
type BadName = keyof typeof BAD;

/** What one flow may cost any role, and what all of them may start from. */
const FLOW_KIB_MAX = 128;
const GROWTH_MIB_MAX = 64;
/** Of descriptors, for a role that is to run out of them; a running one has about 40. */
const FEW = 90;
/** Octets that a backend that never reads may cost on the way: windows and socket buffers. */
const UNREAD_MIB_MAX = 96;
const TRAIN = 100;
const FILL = "dd if=/dev/zero of=full bs=4k";

let deployment: Deployment;
let backend: Backend;
let bad: BadBackends;
let relayAddress: string;
let relay: Role;

beforeAll(async () => {
  deployment = await Deployment.create();
  await deployment.issue("relay", "relay", "--host", HERE.host);
  await deployment.issue("connector", "connector", "--service", SERVICE);
  await deployment.issue("agent", "alice", "--service", SERVICE);
  backend = await deployment.addBackend();
  bad = await startBadBackends();
  relayAddress = `${HERE.host}:${await freePort()}`;
  mkdirSync(deployment.file("disk"));
  relay = await deployment.add(relayOnSmallDisk());
  await relay.ready();
});
afterAll(async () => {
  bad.close();
  await deployment.remove();
});

describe("a backend", () => {
  const patience = { refuses: 2000, hangs: 20_000, resets: 2000 } as const;
  test.each([
    { name: "refuses" } as const,
    { name: "hangs" } as const,
    { name: "resets" } as const,
  ])("that $name ends its own flows and nobody else's", ({ name }) =>
    play({}, async ({ ports, echo }) => {
      const other = await TcpClient.open(HERE.host, ports.echo);
      const clients = await openMany(scaled(200), ports[name]);
      await Promise.all(clients.map((it) => it.write("x").catch(() => undefined)));

      await echo(other);
      await eventually("the end of every flow", { withinMs: patience[name] }, () =>
        clients.every((it) => it.isClosed) ? true : undefined,
      );
      await echo(other);
    }),
  );

  test("that never reads stops its own writer and nobody else", () =>
    play({}, async ({ ports, echo, roles }) => {
      const before = roles.map((it) => residentMib(it.process.pid));
      const other = await TcpClient.open(HERE.host, ports.echo);
      const writer = await TcpClient.open(HERE.host, ports.neverReads);
      let finished = false;
      const chunk = Buffer.alloc(256 * 1024 ** 2);
      writer.write(chunk).then(
        () => {
          finished = true;
        },
        () => undefined,
      );
      for (let second = 0; second < 3; second += 1) {
        await Bun.sleep(1000);
        await echo(other);
      }

      expect(finished).toBe(false);
      roles.forEach((it, index) => {
        expect(residentMib(it.process.pid)).toBeLessThan((before[index] ?? 0) + UNREAD_MIB_MAX);
      });
      writer.close();
    }));
});

describe("an agent", () => {
  const flows = scaled(5000);
  test(`carries ${flows} connections at once and forgets them`, () =>
    play({}, async ({ ports, echo, roles }) => {
      const before = roles.map((it) => residentMib(it.process.pid));
      const open = roles.map((it) => descriptorsOf(it.process.pid));
      const clients = await openMany(flows, ports.echo);
      expect(clients).toHaveLength(flows);

      await Promise.all(clients.map(echo));

      roles.forEach((it, index) => {
        const room = GROWTH_MIB_MAX + (flows * FLOW_KIB_MAX) / 1024;
        expect(residentMib(it.process.pid)).toBeLessThan((before[index] ?? 0) + room);
      });
      for (const client of clients) client.close();
      await eventually("no descriptor is kept", { withinMs: 20_000 }, () =>
        roles.every((it, index) => descriptorsOf(it.process.pid) <= (open[index] ?? 0) + 8)
          ? true
          : undefined,
      );
    }));
});

describe("without a descriptor left", () => {
  test.each([{ name: "agent" } as const, { name: "connector" } as const])(
    "the $name serves the flows that it has, and others when some ended",
    ({ name }) =>
      play({ [name]: withFewDescriptors() }, async ({ ports, echo, roles }) => {
        const first = await TcpClient.open(HERE.host, ports.echo);
        await echo(first);

        const crowd = await openMany(200, ports.echo);
        await echo(first);

        for (const client of crowd) client.close();
        await eventually("another flow", { withinMs: 15_000, everyMs: 250 }, async () => {
          const late = await TcpClient.open(HERE.host, ports.echo);
          const answered = await Promise.race([
            echo(late).then(() => true),
            Bun.sleep(1000).then(() => undefined),
          ]);
          late.close();
          return answered;
        });
        expect(roles.some((it) => it.process.hasExited)).toBe(false);
      }),
  );
});

describe.skipIf(process.getuid?.() !== 0)("without room on the disk", () => {
  test("a relay revokes all the same, says that it was not written, and serves", () =>
    play({}, async ({ ports, echo }) => {
      const client = await TcpClient.open(HERE.host, ports.echo);
      await echo(client);
      const logged = relay.process.lines.length;
      await fillDisk(relay, deployment.file("disk"));

      const spki = "ab".repeat(32);
      const revoked = Array.from({ length: 2000 }, (_, index) => ({
        spki: `${index.toString(16).padStart(8, "0")}${spki.slice(8)}`,
      }));
      deployment.writeConfig(
        { ...relay.spec, config: { ...relay.spec.config, revoked } },
        relay.metricsPort,
      );
      process.kill(relay.process.pid, "SIGHUP");

      await relay.process.line(/store not written/, { withinMs: 10_000 }, logged);
      await echo(client);
    }));

  test("an agent serves, says that it was not written, and keeps what it wrote before", () =>
    play({ agent: onSmallDisk(agentState()) }, async ({ ports, echo, roles: [, , agent] }) => {
      const { pid } = agent.process;
      const before = await eventually("addresses are kept", { withinMs: 5000 }, async () => {
        const text = await keptBy(pid);
        return text.includes(SERVICE) ? text : undefined;
      });
      await fillDisk(agent, agentState());

      // The first use of a service is remembered.
      const client = await TcpClient.open(HERE.host, ports.echo);
      await echo(client);

      await agent.process.line(/store not written/, { withinMs: 10_000 });
      expect(await keptBy(pid)).toBe(before);
      await echo(client);
      await echo(await TcpClient.open(HERE.host, ports.echo));
    }));

  test("an agent starts and serves", () =>
    play(
      { agent: onSmallDisk(agentState(), FILL) },
      async ({ ports, echo, roles: [, , agent] }) => {
        await echo(await TcpClient.open(HERE.host, ports.echo));

        await agent.process.line(/store not written/, { withinMs: 10_000 });
        await echo(await TcpClient.open(HERE.host, ports.echo));
      },
    ));
});

interface Scene {
  readonly ports: Readonly<Record<BadName | "echo", number>>;
  readonly roles: readonly [relay: Role, connector: Role, agent: Role];
  /** Sends a few octets and expects them back. */
  readonly echo: (client: TcpClient) => Promise<void>;
}

/** A connector and an agent for this test alone. */
async function play(
  places: { readonly connector?: Place; readonly agent?: Place },
  act: (scene: Scene) => Promise<void>,
): Promise<void> {
  const ports = {
    ...{ echo: await freePort(), refuses: await freePort(), hangs: await freePort() },
    ...{ resets: await freePort(), neverReads: await freePort() },
  };
  const servicePort = { ...BAD, echo: SERVICE_PORTS.echo };
  const names = [...Object.keys(BAD), "echo"] as (keyof typeof ports)[];
  const connector = await deployment.add(connectorWithBadBackends(places.connector ?? HERE));
  const agent = await deployment.add({
    ...agentSpec(deployment, "alice", relayAddress, places.agent ?? HERE),
    arguments: names.flatMap((it) => ["--forward", `${ports[it]}=${SERVICE}:${servicePort[it]}`]),
  });
  try {
    await deployment.explain(async () => {
      await connector.ready();
      await agent.ready();
      await act({ ports, roles: [relay, connector, agent], echo });
      expect([relay, connector, agent].some((it) => it.process.hasExited)).toBe(false);
    });
  } finally {
    // With a goodbye: the relay shall offer nothing of the next test to a connector that is gone.
    await Promise.all([agent.stop(), connector.stop()]);
  }
}

async function echo(client: TcpClient): Promise<void> {
  await client.write("are you there");
  expect((await client.read(13)).toString()).toBe("are you there");
}

/** In trains, so that no queue of the system overflows. Returns those that were let in. */
async function openMany(count: number, port: number): Promise<TcpClient[]> {
  const clients: TcpClient[] = [];
  for (let tried = 0; tried < count; tried += TRAIN) {
    const length = Math.min(TRAIN, count - tried);
    const opened = Array.from({ length }, () => TcpClient.open(HERE.host, port));
    for (const outcome of await Promise.allSettled(opened)) {
      if (outcome.status === "fulfilled") clients.push(outcome.value);
    }
  }
  return clients;
}

function connectorWithBadBackends(place: Place): Role["spec"] {
  const at = (port: number, backendPort: number) =>
    ({ protocol: "tcp", port, backend: `${HERE.host}:${backendPort}` }) as const;
  const names = Object.keys(BAD) as BadName[];
  return {
    role: "connector",
    name: "connector",
    place,
    config: {
      relays: [relayAddress],
      listen: [`${HERE.host}:0`],
      services: [
        {
          name: SERVICE,
          ports: [
            at(SERVICE_PORTS.echo, backend.ports.echo),
            ...names.map((it) => at(BAD[it], bad[it])),
          ],
        },
      ],
    },
  };
}

function withFewDescriptors(): Place {
  return { ...HERE, prefix: ["bash", "-c", `ulimit -n ${FEW}; exec "$@"`, "few"] };
}

/** Root gives it a disk of its own; anybody else the directory. */
function relayOnSmallDisk(): Role["spec"] {
  const dataDir = deployment.file("disk");
  const place = process.getuid?.() === 0 ? onSmallDisk(dataDir) : HERE;
  const spec = relaySpec(deployment, relayAddress);
  return { ...spec, config: { ...spec.config, dataDir }, place };
}

/** @param first what is run there, in the directory, before the role. */
function onSmallDisk(directory: string, first = ":"): Place {
  mkdirSync(directory, { recursive: true });
  const mount = `mount -t tmpfs -o size=1m small "${directory}"`;
  const script = `${mount} && (cd "${directory}"; ${first}); exec "$@"`;
  return { ...HERE, prefix: ["unshare", "--mount", "bash", "-c", script, "disk"] };
}

async function fillDisk({ process: { pid } }: Role, directory: string): Promise<void> {
  const { code } = await run([...inMountsOf(pid), "sh", "-c", `cd "${directory}" && ${FILL}`]);
  expect(code).not.toBe(0);
}

/** Where the agent keeps what must last. */
function agentState(): string {
  return deployment.file("alice-state");
}

async function keptBy(pid: number): Promise<string> {
  const file = `${agentState()}/agent-state.json`;
  return (await run([...inMountsOf(pid), "cat", file])).stdout;
}

function inMountsOf(pid: number): readonly string[] {
  return ["nsenter", "--target", String(pid), "--mount"];
}
