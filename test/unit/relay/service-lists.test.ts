/** How often agents hear of services, and how much at once. */
import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import type { ServicePort } from "../../../src/protocol/messages.ts";
import { LIST_BYTES_MAX } from "../../../src/relay/service-lists.ts";
import { type BenchLeg, leaf, RelayBench } from "../../support/relay-bench.ts";

const PORTS = Array.from({ length: 64 }, (_, index) => ({
  protocol: "udp" as const,
  port: 60_000 + index,
}));
const LIMIT_REACHED = {
  type: "limit-reached",
  identity: "ztna://corp.example/agent/alice",
  limit: "services",
} as const;

describe("rounds of changes", () => {
  test("come 100 ms apart, the first one at once, and each tells all that has changed", () => {
    const bench = new RelayBench();
    const agent = user(bench, "alice");
    const connector = provider(bench, "one");
    connector.register(["a"]);
    bench.advance(ms(1));
    const atOnce = agent.got("services").length;

    for (const names of [["a", "b"], ["b"], ["b", "c"]]) {
      connector.register(names);
      bench.advance(ms(20));
    }
    const before = agent.got("services").length;
    bench.advance(ms(40));

    expect([atOnce, before]).toEqual([2, 2]);
    const told = agent.got("services").slice(2);
    expect(told.flatMap(({ removed }) => removed ?? [])).toEqual(["a"]);
    expect(told.flatMap(({ added }) => added?.map(({ name }) => name) ?? [])).toEqual(["b", "c"]);
  });

  test("say nothing of what came and went between them", () => {
    const bench = new RelayBench();
    const agent = user(bench, "alice");
    const connector = provider(bench, "one");
    connector.register(["a"]);
    bench.advance(ms(1));

    for (let count = 0; count < 10; count++) {
      connector.register(["a", "b"]);
      connector.register(["a"]);
      bench.advance(ms(100));
    }

    expect(agent.got("services")).toHaveLength(2);
  });

  test("reach every agent once, however fast things change", () => {
    const bench = new RelayBench();
    const agents = Array.from({ length: 600 }, (_, index) => user(bench, `a${index}`));
    const connector = provider(bench, "one");

    for (let count = 0; count < 10; count++) {
      connector.register([`s${count}`]);
      bench.advance(ms(1));
    }
    bench.advance(ms(300));

    const counts = agents.map((agent) => agent.got("services").length);
    // The full list, and for each of two rounds what came and, in a frame of its own, what went.
    expect(Math.max(...counts)).toBeLessThanOrEqual(4);
    for (const agent of agents) expect(held(agent)).toEqual(["s9"]);
  });

  test("end a step sooner when there is more to look at for each agent", () => {
    const bench = new RelayBench();
    for (let count = 0; count < 100; count++) user(bench, `a${count}`);
    const connector = provider(bench, "one");
    connector.register(Array.from({ length: 256 }, (_, index) => `s${index}`));
    const lists = () => bench.take().filter((it) => it.type === "send").length;
    lists();

    bench.advance(ms(1));
    const first = lists();
    bench.advance(ms(1));

    // 64 agents with 256 names each, told in two parts; then the others.
    expect([first, lists()]).toEqual([128, 72]);
  });

  test("begin at once again after a quiet time", () => {
    const bench = new RelayBench();
    const agent = user(bench, "alice");
    const connector = provider(bench, "one");
    for (const name of ["a", "b"]) {
      bench.advance(ms(100));
      connector.register([name]);
      bench.advance(ms(1));
      expect(held(agent)).toEqual([name]);
    }
  });
});

describe("a list that is too long for a connection", () => {
  test("leaves out the last names, and says so once", () => {
    const { bench, names } = crowd();

    const agent = user(bench, "alice");

    const told = agent.got("services").flatMap(({ services }) => services ?? []);
    const bytes = told.reduce((sum, service) => sum + JSON.stringify(service).length + 1, 0);
    expect(bytes).toBeLessThanOrEqual(LIST_BYTES_MAX);
    expect(bytes).toBeGreaterThan(LIST_BYTES_MAX - 2200);
    expect(told.map(({ name }) => name)).toEqual(names.slice(0, told.length));
    expect(bench.events().filter(({ type }) => type === "limit-reached")).toEqual([LIMIT_REACHED]);
  });

  test("grows to no more by changes, and says so once", () => {
    const bench = new RelayBench();
    const agent = user(bench, "alice");
    const { connectors } = crowd(bench);
    bench.advance(seconds(1));

    for (const connector of connectors) connector.close("goodbye");
    bench.advance(seconds(1));
    crowd(bench);
    bench.advance(seconds(1));

    const full = Math.floor(LIST_BYTES_MAX / SERVICE_BYTES);
    expect(held(agent).length).toBe(full);
    expect(bench.events().filter(({ type }) => type === "limit-reached")).toEqual([LIMIT_REACHED]);
  });

  test("takes in what was left out when there is room, 10 s after it was cut", () => {
    const { bench, names, connectors } = crowd();
    const agent = user(bench, "alice");
    expect(held(agent)).not.toContain(names.at(-1));

    bench.advance(seconds(10));
    for (const connector of connectors.slice(0, 2)) connector.close("goodbye");
    bench.advance(ms(10));

    expect(held(agent)).toEqual(names.slice(2 * PER_CONNECTOR));
  });

  test("loses a service whose ports have become too many for it", () => {
    const { bench } = crowd();
    const small = provider(bench, "small");
    const name = "a".repeat(63);
    const provide = (ports: readonly ServicePort[]) => register(small, [name], ports);
    provide([]);
    const agent = user(bench, "alice");
    expect(held(agent)).toContain(name);

    provide(PORTS);
    bench.advance(ms(10));

    expect(held(agent)).not.toContain(name);
    expect(agent.last("services").removed).toEqual([name]);
  });
});

const PER_CONNECTOR = 25;
const SERVICE_BYTES = JSON.stringify({ name: "s0000", ports: PORTS }).length + 1;

/** 16 connectors with 25 services of 64 ports each: more than 800 KiB of JSON. */
function crowd(bench = new RelayBench()) {
  const names = Array.from(
    { length: 16 * PER_CONNECTOR },
    (_, index) => `s${String(index).padStart(4, "0")}`,
  );
  const connectors = Array.from({ length: 16 }, (_, index) => {
    const leg = provider(bench, `c${index}`);
    register(leg, names.slice(index * PER_CONNECTOR, (index + 1) * PER_CONNECTOR), PORTS);
    return leg;
  });
  return { bench, names, connectors };
}

/** May use every service. */
function user(bench: RelayBench, name: string): BenchLeg {
  return bench.join(leaf(`ztna://corp.example/agent/${name}`, ["agent.ztna"]));
}

/** May provide every service. */
function provider(bench: RelayBench, name: string): BenchLeg {
  return bench.join(leaf(`ztna://corp.example/connector/${name}`, ["connector.ztna"]));
}

function register(leg: BenchLeg, names: readonly string[], ports: readonly ServicePort[]): void {
  const services = names.map((name) => ({ name, ports, weight: 100 }));
  leg.send({ type: "register", request: 1, services, sessions: [], revocationsSeen: 0 });
}

/** What the agent has by now, from all that it was told. */
function held(agent: BenchLeg): string[] {
  const names = new Set<string>();
  for (const { services, added, removed } of agent.got("services")) {
    for (const name of removed ?? []) names.delete(name);
    for (const { name } of services ?? added ?? []) names.add(name);
  }
  return [...names].sort();
}
