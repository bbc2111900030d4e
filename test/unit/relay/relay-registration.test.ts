import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import { encodeControl } from "../../../src/protocol/control-codec.ts";
import { CONTROL_FRAME_BYTES_MAX, ISSUER_HEX_CHARS_MAX } from "../../../src/protocol/limits.ts";
import type { Register } from "../../../src/protocol/messages.ts";
import { CHANGES_MAX } from "../../../src/relay/service-lists.ts";
import { type BenchLeg, connectorLeaf, RelayBench } from "../../support/relay-bench.ts";

describe("the registration of a connector", () => {
  test("accepts what the certificate grants and refuses the rest", () => {
    const bench = new RelayBench();
    const leg = bench.join(connectorLeaf("one", ["a", "b"]));

    register(leg, ["a", "c", "b", "a"]);

    expect(leg.last("register-ok")).toMatchObject({
      request: 7,
      accepted: ["a", "b"],
      rejected: [
        { name: "c", code: "refused" },
        { name: "a", code: "invalid" },
      ],
    });
  });

  test("takes at most so many services", () => {
    const bench = new RelayBench({ limits: { servicesPerConnector: 2 } });
    const leg = bench.join(connectorLeaf("one", ["a", "b", "c"]));

    register(leg, ["a", "b", "c"]);

    expect(leg.last("register-ok")).toMatchObject({
      accepted: ["a", "b"],
      rejected: [{ name: "c", code: "limit-exceeded" }],
    });
  });

  test("is the whole list: what is missing is withdrawn, with its sessions", () => {
    const { bench, agent, connector, session } = open();

    register(connector, ["web"], [session]);
    bench.advance(ms(2));

    expect(agent.last("session-close")).toMatchObject({ session, code: "NO_ERROR" });
    expect(agent.last("services")).toMatchObject({ added: [], removed: ["echo"] });
    agent.open("echo");
    bench.advance(ms(5));
    expect(agent.last("failed").code).toBe("not-available");
  });

  test("ends the sessions that the connector does not hold", () => {
    const { agent, connector, session } = open();

    register(connector, ["echo", "web"], []);

    expect(agent.last("session-close")).toMatchObject({ session });
    expect(connector.got("session-close")).toEqual([]);
  });

  test("ends none of them when the list is as long as it may be, or its frame is full", () => {
    const held = (count: number) =>
      Array.from({ length: count }, (_, index) => index.toString(16).padStart(32, "f"));
    const { bench, connector } = open();
    register(connector, ["echo", "web"], held(1024));
    expect(bench.state.figures.sessions).toBe(1);

    const ports = Array.from({ length: 64 }, (_, index) => ({
      protocol: "udp" as const,
      port: 60_000 + index,
    }));
    const names = ["echo", "web", ...held(15).map((name) => `s${name}`)];
    const services = names.map((name) => ({ name, ports, weight: 100 }));
    connector.send({ ...REGISTER, services, sessions: held(840) });
    expect(bench.state.figures.sessions).toBe(1);

    register(connector, ["echo", "web"], held(1023));
    expect(bench.state.figures.sessions).toBe(0);
  });

  test("names sessions to be closed: those that ended, and those of another connector", () => {
    const { bench, agent, connector, session } = open();
    const other = bench.connector("two", ["echo"]);
    register(other, ["echo"], [session]);
    agent.send({ type: "session-close", session, code: "NO_ERROR", reason: "" });
    register(connector, ["echo"], [session]);

    expect(other.last("register-ok").close).toEqual([session]);
    expect(connector.last("register-ok").close).toEqual([session]);
  });

  test("leaves a session of an earlier epoch 120 s to be confirmed", () => {
    const bench = new RelayBench();
    const held = "ab".repeat(16);
    const connector = bench.join(connectorLeaf("one", ["echo"]));
    register(connector, ["echo"], [held]);
    bench.advance(ms(119_999));
    register(connector, ["echo"], [held]);
    expect(connector.last("register-ok").close).toEqual([]);

    bench.advance(ms(1));
    register(connector, ["echo"], [held]);
    expect(connector.last("register-ok").close).toEqual([held]);
  });

  test("tells the revocations that the connector has not seen, those beyond an answer as notices", () => {
    const revocations = Array.from({ length: 103 }, (_, index) => ({
      sequence: index + 1,
      spki: index.toString(16).padStart(64, "0"),
    }));
    const bench = new RelayBench({ revocations });
    const connector = bench.join(connectorLeaf("one", []));

    register(connector, [], [], 2);

    expect(connector.last("register-ok").revoked).toEqual(revocations.slice(2, 102));
    expect(connector.got("revoked").map(({ sequence }) => sequence)).toEqual([103]);
  });

  test("tells only those revocations in the answer that its frame has room for", () => {
    const revocations = Array.from({ length: 40 }, (_, index) => ({
      sequence: index + 1,
      issuer: index.toString(16).padStart(ISSUER_HEX_CHARS_MAX, "0"),
      serial: "01",
    }));
    const bench = new RelayBench({ revocations });
    const connector = bench.join(connectorLeaf("one", ["echo"]));

    register(connector, ["echo"]);

    const answer = connector.last("register-ok");
    const told = [...answer.revoked, ...connector.got("revoked")];
    expect(answer.revoked).toHaveLength(15);
    expect(told.map(({ sequence }) => sequence)).toEqual(revocations.map((it) => it.sequence));
    expect(encodeControl(answer).length).toBeLessThanOrEqual(CONTROL_FRAME_BYTES_MAX);
  });

  test("tells a revocation once on a leg, however often it is sent", () => {
    const revocations = Array.from({ length: 103 }, (_, index) => ({
      sequence: index + 1,
      spki: index.toString(16).padStart(64, "0"),
    }));
    const bench = new RelayBench({ revocations });
    const connector = bench.join(connectorLeaf("one", []));
    bench.feed({ type: "revoke", name: { spki: "ab".repeat(32) } });
    const early = connector.got("revoked").length;

    register(connector, []);
    bench.feed({ type: "revoke", name: { spki: "cd".repeat(32) } });
    const told = connector.got("revoked").length;
    register(connector, []);
    register(connector, [], [], 999);

    const answers = connector.got("register-ok").map(({ revoked }) => revoked.length);
    expect([early, told, connector.got("revoked").length]).toEqual([1, 6, 6]);
    expect(answers).toEqual([100, 0, 0]);
  });

  test("tells them again on another leg", () => {
    const bench = new RelayBench({ revocations: [{ sequence: 1, spki: "ab".repeat(32) }] });
    const leaf = connectorLeaf("one", []);
    const first = bench.join(leaf);
    register(first, []);

    const next = bench.join(leaf, { instance: first.instance, attempt: 2 });
    register(next, []);

    expect(next.last("register-ok").revoked).toHaveLength(1);
  });

  test("is one event for what it adds, one for what it takes away, one for what is refused", () => {
    const names = Array.from({ length: 250 }, (_, index) => `s${index}`);
    const bench = new RelayBench();
    const connector = bench.join(connectorLeaf("one", names.slice(0, 100)));
    register(connector, names);
    register(connector, names.slice(50));

    const identity = "ztna://corp.example/connector/one";
    const rejected = names.slice(100).map((name) => ({ name, code: "refused" as const }));
    const events = bench.events().filter(({ type }) => type !== "leg-up");
    expect(events).toEqual([
      { type: "registration-rejected", identity, rejected },
      { type: "registered", identity, services: names.slice(0, 100) },
      { type: "registration-rejected", identity, rejected },
      { type: "withdrawn", identity, services: names.slice(0, 50) },
    ]);
  });

  test("is kept for 120 s without a leg, while nobody gets a session there", () => {
    const { bench, agent, connector } = open();
    agent.send({
      type: "session-close",
      session: agent.last("session-open-ok").session,
      code: "NO_ERROR",
      reason: "",
    });
    connector.close("lost");

    agent.open("echo");
    expect(agent.last("failed").code).toBe("no-connector");

    bench.advance(seconds(121));
    expect(agent.last("services")).toMatchObject({ removed: ["echo", "web"] });
  });
});

describe("the list of services", () => {
  test("holds what is provided and may be used, and nothing else", () => {
    const bench = new RelayBench();
    bench.connector("one", ["echo", "secret"]);

    const agent = bench.agent("alice", ["echo", "nowhere"]);

    const ports = [{ protocol: "tcp", port: 80 }] as const;
    expect(agent.got("services")).toEqual([
      {
        type: "services",
        generation: 1,
        part: 0,
        last: true,
        services: [{ name: "echo", ports }],
      },
    ]);
  });

  test("changes by one generation when a connector comes or goes", () => {
    const bench = new RelayBench();
    const agent = bench.agent("alice", ["echo"]);
    const connector = bench.connector("one", ["echo"]);
    bench.advance(ms(100));
    connector.close("goodbye");
    bench.advance(ms(2));

    expect(agent.got("services")).toMatchObject([
      { generation: 1, services: [] },
      { generation: 2, added: [{ name: "echo" }], removed: [] },
      { generation: 3, added: [], removed: ["echo"] },
    ]);
  });

  test("says nothing of a second connector with the same ports, and tells other ports", () => {
    const bench = new RelayBench();
    bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);
    const two = bench.connector("two", ["echo"]);
    bench.advance(ms(2));
    expect(agent.got("services")).toHaveLength(1);

    two.send({
      type: "register",
      request: 1,
      services: [{ name: "echo", ports: [{ protocol: "udp", port: 53 }], weight: 1 }],
      sessions: [],
      revocationsSeen: 0,
    });
    bench.advance(ms(2));
    expect(agent.last("services").added).toEqual([
      {
        name: "echo",
        ports: [
          { protocol: "udp", port: 53 },
          { protocol: "tcp", port: 80 },
        ],
      },
    ]);
  });

  test("follows policy", () => {
    const { bench, agent } = open();
    const rule = { id: "x", effect: "deny", identities: ["*"], services: ["web"] } as const;
    const identities = { trustDomains: ["corp.example"], spiffe: new Map(), identities: new Map() };

    bench.feed({ type: "configure", policy: { rules: [rule], default: "allow" }, identities });
    bench.advance(ms(2));

    expect(agent.last("services")).toMatchObject({ added: [], removed: ["web"] });
  });

  test("comes in parts of 200 that end with the last", () => {
    const names = Array.from({ length: 401 }, (_, index) => `s${1000 + index}`);
    const bench = new RelayBench();
    bench.connector("one", names.slice(0, 250));
    bench.connector("two", names.slice(250));

    const agent = bench.agent("alice", names);

    const parts = agent.got("services");
    expect(parts.map(({ part, last, services }) => [part, last, services?.length])).toEqual([
      [0, false, 200],
      [1, false, 200],
      [2, true, 1],
    ]);
    expect(parts.flatMap(({ services }) => services?.map(({ name }) => name) ?? [])).toEqual(names);
  });

  test("is cut to what fits into a frame", () => {
    const bench = new RelayBench();
    const names = Array.from({ length: 100 }, (_, index) => `s${1000 + index}`);
    const connector = bench.join(connectorLeaf("one", names));
    const ports = Array.from({ length: 64 }, (_, index) => ({
      protocol: "udp" as const,
      port: 60_000 + index,
    }));
    for (const half of [names.slice(0, 25), names.slice(0, 20)]) {
      const services = half.map((name) => ({ name, ports, weight: 1 }));
      connector.send({ ...REGISTER, services });
    }
    bench.connector("two", names.slice(20));

    const agent = bench.agent("alice", names);

    const sizes = agent.got("services").map((message) => JSON.stringify(message).length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(65_536);
    expect(agent.got("services").flatMap(({ services }) => services ?? [])).toHaveLength(100);
  });

  test("is right for an agent that missed more changes than are kept", () => {
    const names = Array.from({ length: 256 }, (_, index) => `s${index}`);
    const bench = new RelayBench();
    const connector = bench.connector("one", names);
    const agent = bench.agent("alice", names);

    for (let changes = 0; changes <= CHANGES_MAX; changes += names.length) {
      register(connector, changes % (2 * names.length) === 0 ? [] : names);
    }
    register(connector, ["s7"]);
    bench.advance(ms(1));

    const removed = agent.got("services").flatMap((message) => message.removed ?? []);
    expect(removed.sort()).toEqual(names.filter((name) => name !== "s7").sort());
  });

  test("has at most so many services", () => {
    const bench = new RelayBench({ limits: { servicesPerAgent: 2 } });
    bench.connector("one", ["a", "b", "c"]);

    const agent = bench.agent("alice", ["a", "b", "c"]);

    expect(agent.last("services").services?.map(({ name }) => name)).toEqual(["a", "b"]);
    expect(bench.events()).toContainEqual({
      type: "limit-reached",
      identity: "ztna://corp.example/agent/alice",
      limit: "services",
    });
  });

  test("of a thousand agents is brought up to date in portions", () => {
    const bench = new RelayBench();
    const agents = Array.from({ length: 1000 }, (_, index) => bench.agent(`a${index}`, ["echo"]));
    bench.connector("one", ["echo"]);
    bench.take();

    bench.advance(ms(1));
    expect(bench.take()).toHaveLength(256);

    bench.advance(ms(3));
    expect(bench.take()).toHaveLength(744);
    expect(agents).toHaveLength(1000);
  });
});

const REGISTER = {
  type: "register",
  request: 7,
  services: [],
  sessions: [],
  revocationsSeen: 0,
} as const;

function register(
  leg: BenchLeg,
  names: readonly string[],
  sessions: readonly string[] = [],
  revocationsSeen = 0,
): void {
  const ports = [{ protocol: "tcp", port: 80 }] as const;
  const services = names.map((name) => ({ name, ports, weight: 100 }));
  leg.send({ ...REGISTER, services, sessions, revocationsSeen } satisfies Register);
}

function open() {
  const bench = new RelayBench();
  const connector = bench.connector("one", ["echo", "web"]);
  const agent = bench.agent("alice", ["echo", "web"]);
  agent.open("echo");
  connector.accept();
  const { session } = agent.last("session-open-ok");
  return { bench, connector, agent, session };
}
