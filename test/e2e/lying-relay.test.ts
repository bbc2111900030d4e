/** A relay can deny, and no more: what it says of a peer is believed by nobody. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Backend } from "../support/backend.ts";
import { Deployment, HERE, type Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { type Lie, LyingRelay } from "../support/lying-relay.ts";
import { freePort } from "../support/ports.ts";
import { run } from "../support/process.ts";
import { agentSpec, connectorSpec, SERVICE } from "../support/simple-deployment.ts";

const OTHER = "other-service";

let deployment: Deployment;
let backend: Backend;

beforeAll(async () => {
  deployment = await Deployment.create();
  await deployment.issue("relay", "relay", "--host", HERE.host);
  await deployment.issue("connector", "connector", "--service", SERVICE);
  await deployment.issue("connector", "mallory", "--service", OTHER);
  await deployment.issue("agent", "alice", "--service", SERVICE);
  await deployment.issue("agent", "bob", "--service", OTHER);
  backend = await deployment.addBackend();
});
afterAll(() => deployment.remove());

interface Cast {
  readonly connector: string;
  readonly agent: string;
  readonly lie: Lie;
}

describe("a relay that lies", () => {
  test("gains nothing when it says the truth, so that the other tests prove something", () =>
    play({ connector: "connector", agent: "alice", lie: (leaf) => leaf }, async ({ fetch }) => {
      expect(await fetch()).toMatchObject({ code: 0, stdout: "hello from the backend\n" });
    }));

  test("cannot put another service's connector in a service's place", () =>
    play(
      {
        connector: "mallory",
        agent: "alice",
        lie: granting("connector/mallory", `connector.${SERVICE}.ztna`),
      },
      async ({ fetch, failure }) => {
        expect(await fetch()).not.toMatchObject({ code: 0 });
        const { code, reason } = await failure();
        expect(code).toBe("connector-not-entitled");
        expect(reason).toContain(SERVICE);
      },
    ));

  test("cannot pass one connector off as another", () =>
    play(
      { connector: "connector", agent: "alice", lie: withForeignKey("connector/connector") },
      async ({ fetch, failure }) => {
        expect(await fetch()).not.toMatchObject({ code: 0 });
        expect((await failure()).code).toBe("connector-refused");
      },
    ));

  test("cannot bring an agent to a service that its certificate does not grant", () =>
    play(
      {
        connector: "connector",
        agent: "bob",
        lie: granting("agent/bob", `agent.${SERVICE}.ztna`),
      },
      async ({ fetch, connector, failure }) => {
        expect(await fetch()).not.toMatchObject({ code: 0 });
        expect(await connector.process.line(/refused/, { withinMs: 5000 })).toContain(SERVICE);
        expect((await failure()).code).toBeString();
      },
    ));

  test("cannot announce one agent and bring another", () =>
    play(
      { connector: "connector", agent: "alice", lie: withForeignKey("agent/alice") },
      async ({ fetch, connector }) => {
        expect(await fetch()).not.toMatchObject({ code: 0 });
        await connector.process.line(/tunnel refused/, { withinMs: 5000 });
      },
    ));
});

interface Scene {
  readonly connector: Role;
  readonly fetch: () => Promise<{ code: number; stdout: string }>;
  /** Why the service fails, by the agent's status. */
  readonly failure: () => Promise<{ readonly code: string; readonly reason: string }>;
}

async function play(
  { connector, agent, lie }: Cast,
  act: (scene: Scene) => Promise<void>,
): Promise<void> {
  const listen = `${HERE.host}:${await freePort()}`;
  const relay = await LyingRelay.start(deployment, { name: "relay", listen, lie });
  const http = await freePort();
  const roles = [
    await deployment.add({ ...connectorSpec(listen, backend), name: connector }),
    await deployment.add({
      ...agentSpec(deployment, agent, listen),
      arguments: ["--forward", `${http}=${SERVICE}:80`],
    }),
  ] as const;
  const status = async () =>
    JSON.parse(
      await deployment.ztna(
        ...["status", "--json", "--control-socket", deployment.file(`${agent}.sock`)],
      ),
    );
  const fetch = () => run(["curl", "-sS", "--max-time", "6", `http://${HERE.host}:${http}/hello`]);
  const failure = () =>
    eventually("the status says why", { withinMs: 5000 }, async () => {
      const { services } = await status();
      return services.find((it: { name: string }) => it.name === SERVICE)?.error;
    });
  try {
    await deployment.explain(async () => {
      for (const role of roles) await role.ready();
      await act({ connector: roles[0], fetch, failure });
    });
  } finally {
    await Promise.all(roles.map((it) => it.stop()));
    await relay.stop();
  }
}

function granting(uriEnd: string, grant: string): Lie {
  return (leaf) =>
    isNamed(leaf, uriEnd) ? { ...leaf, dnsNames: [...leaf.dnsNames, grant] } : leaf;
}

function withForeignKey(uriEnd: string): Lie {
  return (leaf) => (isNamed(leaf, uriEnd) ? { ...leaf, spkiSha256: "ab".repeat(32) } : leaf);
}

function isNamed({ uris }: { readonly uris: readonly string[] }, end: string): boolean {
  return uris.some((uri) => uri.endsWith(`/${end}`));
}
