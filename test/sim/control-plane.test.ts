/** Relay, connector and agent as they are, talking to each other: what users would notice. */
import { describe, expect, test } from "bun:test";
import type { PolicyTable } from "../../src/policy/engine.ts";
import type { Process } from "./control-process.ts";
import { ControlWorld } from "./control-world.ts";

describe("the control plane", () => {
  test("a service is granted on both sides within half a second of being wanted", () => {
    const { world, connector, agent } = deployed();

    world.want(agent, "echo");
    world.run(500);

    expect(services(agent)).toEqual(["echo"]);
    expect(services(connector)).toEqual(["echo"]);
    expect(world.faults).toEqual([]);
  });

  test("a second service shares the tunnel", () => {
    const { world, connector, agent } = deployed();
    world.want(agent, "echo");
    world.run(500);

    world.want(agent, "web");
    world.run(500);

    expect(services(agent)).toEqual(["echo", "web"]);
    expect(tunnels(agent)).toHaveLength(1);
    expect(services(connector)).toEqual(["echo", "web"]);
  });

  test("a service that the agent's certificate does not grant is not there for it", () => {
    const { world, agent, connector } = deployed({ agentServices: ["web"] });

    world.want(agent, "echo");
    world.run(1000);

    expect(agent.granted.size + connector.granted.size).toBe(0);
    expect(refusals(agent)).toEqual([{ service: "echo", answer: 1 }]);
  });

  test("with two relays the tunnel has a path over each", () => {
    const { world, agent, connector } = deployed({ relays: 2 });
    world.want(agent, "echo");
    world.run(1000);

    expect(agent.paths.size).toBe(2);
    expect(connector.paths.size).toBe(2);
    expect(tunnels(agent)).toHaveLength(1);
  });

  test("a relay that restarts gets its peers back in 3 s, and no grant is touched", () => {
    const { world, agent, connector, relays } = deployed();
    world.want(agent, "echo");
    world.run(10_000);
    const before = [[...agent.granted], [...connector.granted]];

    world.kill(relays[0] as Process, 1000);
    world.run(5000);
    const relay = world.relay(0);
    world.run(3000);

    expect(figures(relay)).toMatchObject({ agents: 1, connectors: 1, sessions: 1, channels: 1 });
    expect([[...agent.granted], [...connector.granted]]).toEqual(before);
    world.run(300_000);
    expect([[...agent.granted], [...connector.granted]]).toEqual(before);
    expect(revokes(agent) + revokes(connector)).toBe(0);
    expect(world.faults).toEqual([]);
  });

  test("a connector that restarts serves again in 3 s for an agent that uses it", () => {
    const { world, agent, connector } = deployed();
    world.want(agent, "echo");
    world.run(1000);
    world.use(agent, "echo");

    world.kill(connector, 2000);
    world.run(5000);
    const restarted = world.connector("edge", ["echo", "web"], 1);
    world.run(3000);

    expect(services(agent)).toEqual(["echo"]);
    expect(services(restarted)).toEqual(["echo"]);
  });

  test("while a tunnel is silent another connector takes over, and the first one serves on", () => {
    const { world, agent, connector } = deployed();
    world.want(agent, "echo");
    world.run(1000);
    const other = world.connector("edge-2", ["echo"], 1);
    world.run(1000);

    world.silence(agent, true);
    world.run(1000);

    expect(services(other)).toEqual(["echo"]);
    expect(services(connector)).toEqual(["echo"]);
    expect(tunnels(agent)).toHaveLength(2);
  });

  test("a policy that changes cuts the session on both sides at once", () => {
    const { world, agent, connector, relays } = deployed();
    world.want(agent, "echo");
    world.run(1000);

    world.configure(relays[0] as Process, denying("echo"));
    world.run(100);

    expect(agent.granted.size).toBe(0);
    expect(connector.granted.size).toBe(0);
  });

  test("a revoked key is cut off at the connector in a second", () => {
    const { world, agent, connector, relays } = deployed();
    world.want(agent, "echo");
    world.run(1000);

    world.revoke(relays[0] as Process, agent.leaf.spkiSha256);
    world.run(1000);

    expect(connector.granted.size).toBe(0);
    world.want(agent, "echo");
    world.run(10_000);
    expect(connector.granted.size).toBe(0);
  });

  test("half a day of leases passes without a grant being touched", () => {
    const { world, agent, connector } = deployed({ relays: 2 });
    world.want(agent, "echo");
    world.run(1000);
    world.use(agent, "echo");

    world.run(12 * 3_600_000);

    expect(services(agent)).toEqual(["echo"]);
    expect(services(connector)).toEqual(["echo"]);
    expect(revokes(agent) + revokes(connector)).toBe(0);
  });
});

function deployed({ relays: count = 1, agentServices = ["echo", "web"] } = {}) {
  const { SEED = "1" } = Bun.env;
  const world = new ControlWorld(seeded(Number(SEED)));
  const relays = Array.from({ length: count }, (_, number) => world.relay(number));
  const connector = world.connector("edge", ["echo", "web"], count);
  world.run(500);
  const agent = world.agent("alice", agentServices, count);
  world.run(500);
  return { world, relays, connector, agent };
}

function services(process: Process): string[] {
  return [...new Set([...process.granted].map((it) => it.split(" ")[1] ?? ""))].sort();
}

function tunnels(process: Process): string[] {
  return [...new Set([...process.granted].map((it) => it.split(" ")[0] ?? ""))];
}

function revokes({ outputs }: Process): number {
  return outputs.filter(
    ({ output }) => output.type === "command" && output.command.type === "revoke",
  ).length;
}

function refusals({ outputs }: Process) {
  return outputs.flatMap(({ output }) => {
    if (output.type !== "command" || output.command.type !== "refuse-service") return [];
    const { service, answer } = output.command;
    return [{ service, answer }];
  });
}

function figures({ machine }: Process) {
  return "figures" in machine ? machine.figures : undefined;
}

function denying(service: string): PolicyTable {
  const rule = { id: "no", effect: "deny", identities: ["*"], services: [service] } as const;
  return { rules: [rule], default: "allow" };
}

/** Mulberry32. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d_2b_79_f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
