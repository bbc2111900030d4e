import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import {
  agentLeaf,
  type BenchOptions,
  connectorLeaf,
  RelayBench,
} from "../../support/relay-bench.ts";

const HELD = "ab".repeat(16);

describe("offers to connectors", () => {
  test("one that is not answered for 1 s goes to the next connector", () => {
    const { agent, one, two, bench } = openWithTwo();
    agent.open("echo");
    bench.advance(ms(999));
    expect(two.got("session-offer")).toEqual([]);

    bench.advance(ms(1));
    two.accept();

    expect(one.got("session-offer")).toHaveLength(1);
    expect(agent.last("session-open-ok").connector.instance).toBe(two.instance);
    expect(bench.events()).toContainEqual({
      type: "offer-unanswered",
      identity: "ztna://corp.example/connector/one",
    });
  });

  test("tell both ends the round trip between them, rounded up", () => {
    const { agent, one, two } = openWithTwo();
    agent.rttUs = 700;
    one.rttUs = 1301;
    two.rttUs = 1301;
    one.register(["echo"]);
    two.register(["echo"]);
    agent.open("echo");
    expect(one.last("session-offer").path.rttMs).toBe(3);

    one.rttUs = 300;
    one.accept();

    expect(agent.last("session-open-ok").paths).toMatchObject([{ rttMs: 1 }]);
  });

  test("tell nothing of a way that was not measured", () => {
    const { agent, one } = openWithTwo();
    agent.rttUs = 700;
    agent.open("echo");
    one.accept();

    expect(one.last("session-offer").path).not.toContainKey("rttMs");
    expect(agent.last("session-open-ok").paths[0]).not.toContainKey("rttMs");
  });

  test("a late answer is closed", () => {
    const { agent, one, two, bench } = openWithTwo();
    agent.open("echo");
    bench.advance(seconds(1));
    two.accept();

    one.accept();

    const { session } = one.last("session-offer");
    expect(one.last("session-close")).toMatchObject({ session, code: "NO_ERROR" });
    expect(agent.got("session-open-ok")).toHaveLength(1);
  });

  test("a silent connector gets none until it answers a PING", () => {
    const { agent, one, two, bench } = openWithTwo();
    agent.open("echo");
    bench.advance(seconds(1));
    expect(bench.outputs).toContainEqual({ type: "ping-leg", connection: one.connection });
    two.refuse();
    bench.feed({ type: "leg-silent", connection: one.connection });

    agent.open("echo");
    expect(one.got("session-offer")).toHaveLength(1);
    two.refuse();

    // The next PING is not found silent.
    bench.advance(seconds(4));
    agent.open("echo");
    two.refuse();
    expect(one.got("session-offer")).toHaveLength(2);
  });

  test("a connector that left its last offer unanswered is asked last, PING or not", () => {
    const { one, two, bench } = openWithTwo();
    const [bob, carol] = [bench.agent("bob", ["echo"]), bench.agent("carol", ["echo"])];
    bob.open("echo");
    bench.advance(seconds(1));
    two.accept();
    bench.advance(seconds(10));

    carol.open("echo");
    const first = [one.got("session-offer").length, two.got("session-offer").length];
    bench.advance(seconds(1));

    expect(first).toEqual([1, 2]);
    expect(one.got("session-offer")).toHaveLength(2);
  });

  test("it is asked as before once it says anything", () => {
    const { one, two, bench } = openWithTwo();
    const [bob, carol] = [bench.agent("bob", ["echo"]), bench.agent("carol", ["echo"])];
    bob.open("echo");
    bench.advance(seconds(1));
    two.accept();
    bench.advance(seconds(10));

    one.accept();
    carol.open("echo");

    expect(one.got("session-offer")).toHaveLength(2);
    expect(two.got("session-offer")).toHaveLength(1);
  });

  test("a request is offered three times at most", () => {
    const bench = new RelayBench();
    const connectors = ["one", "two", "three", "four"].map((name) =>
      bench.connector(name, ["echo"]),
    );
    const agent = bench.agent("alice", ["echo"]);

    agent.open("echo");
    bench.advance(seconds(10));

    expect(connectors.map((leg) => leg.got("session-offer").length)).toEqual([1, 1, 1, 0]);
    expect(agent.last("failed").code).toBe("no-connector");
  });

  test("one that is refused goes to the next, and the last refusal is told", () => {
    const { agent, one, two } = openWithTwo();
    agent.open("echo");

    one.send({
      type: "failed",
      request: one.last("session-offer").request,
      code: "limit-exceeded",
      reason: "",
    });
    two.send({
      type: "failed",
      request: two.last("session-offer").request,
      code: "draining",
      reason: "",
    });

    expect(agent.last("failed").code).toBe("draining");
  });

  test("a connector to be avoided gets none", () => {
    const { agent, one, two } = openWithTwo();

    agent.open("echo", { avoid: [one.instance] });
    two.refuse();

    expect(one.got("session-offer")).toEqual([]);
    expect(agent.last("failed").code).toBe("refused");
  });

  test("avoiding the connector of a session opens another, beside the first", () => {
    const { agent, one, two, bench } = openWithTwo();
    agent.open("echo");
    one.accept();

    agent.open("echo", { avoid: [one.instance] });
    two.accept();

    expect(agent.last("session-open-ok").connector.instance).toBe(two.instance);
    expect(bench.state.figures.sessions).toBe(2);
  });

  test("weights share them out", () => {
    let at = 0;
    const { agent, one, two, bench } = openWithTwo({ randomUnit: () => at });
    one.send(registration(1));
    two.send(registration(3));
    const bob = bench.agent("bob", ["echo"]);

    at = 0.24;
    agent.open("echo");
    at = 0.26;
    bob.open("echo");

    expect([one.got("session-offer").length, two.got("session-offer").length]).toEqual([1, 1]);
    expect(two.last("session-offer").agent.identity).toBe("ztna://corp.example/agent/bob");
  });

  test("those of a replaced leg are made again on the next", () => {
    const { agent, one, bench } = openWithTwo();
    agent.open("echo");
    const leaf = connectorLeaf("one", ["echo"]);

    const next = bench.join(leaf, { instance: one.instance, attempt: 2 });
    next.accept();

    expect(next.last("session-offer").session).toBe(one.last("session-offer").session);
    expect(agent.last("session-open-ok").connector.instance).toBe(one.instance);
  });

  test("those of a lost leg go elsewhere at once", () => {
    const { agent, one, two } = openWithTwo();
    agent.open("echo");

    one.close("lost");

    expect(two.got("session-offer")).toHaveLength(1);
  });

  test("what an agent asked on a replaced leg is not answered, and found when it asks again", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo");
    const leaf = agentLeaf("alice", ["echo"]);
    const next = bench.join(leaf, { instance: agent.instance, attempt: 2 });
    connector.accept();

    next.open("echo");

    expect(agent.got("session-open-ok")).toEqual([]);
    expect(next.got("session-open-ok")).toHaveLength(1);
    expect(connector.got("session-offer")).toHaveLength(1);
  });

  test("nothing is offered any further for an agent that went away", () => {
    const { bench, agent, one, two } = openWithTwo();
    const named = "77".repeat(16);
    agent.open("echo");
    agent.open("echo", { connector: named });
    agent.close("goodbye");

    one.accept();
    const three = bench.connector("three", ["echo"], { instance: named });
    bench.advance(seconds(10));

    expect([two.got("session-offer"), three.got("session-offer")]).toEqual([[], []]);
    expect(bench.state.figures).toMatchObject({ sessions: 0, channels: 0 });
  });

  test("an offer whose agent went away meanwhile is taken back", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo");
    agent.close("goodbye");

    connector.accept();

    const { session } = connector.last("session-offer");
    expect(connector.last("session-close")).toMatchObject({ session });
    expect(bench.state.figures).toMatchObject({ sessions: 0, channels: 0 });
  });
});

describe("after a restart of the relay", () => {
  const INSTANCE = "77".repeat(16);

  test("a named connector is waited for, and the session keeps its id", () => {
    const bench = new RelayBench();
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo", { connector: INSTANCE, session: HELD });
    bench.advance(ms(4999));

    const connector = bench.connector("one", ["echo"], { instance: INSTANCE });
    connector.accept();

    expect(connector.last("session-offer").session).toBe(HELD);
    expect(agent.last("session-open-ok").session).toBe(HELD);
  });

  test("after 5 s the wait is over", () => {
    const bench = new RelayBench();
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo", { connector: INSTANCE });

    bench.advance(ms(4999));
    expect(agent.got("failed")).toEqual([]);

    bench.advance(ms(1));
    expect(agent.last("failed").code).toBe("no-connector");
  });

  test("nobody waits for a service that is not granted", () => {
    const bench = new RelayBench();
    const agent = bench.agent("alice", ["echo"]);

    agent.open("other", { connector: INSTANCE });
    bench.advance(ms(5));

    expect(agent.last("failed").code).toBe("not-available");
  });

  test("the id of somebody else's session is not taken over", () => {
    const { bench, connector, session } = open();
    const bob = bench.agent("bob", ["echo"]);

    bob.open("echo", { connector: connector.instance, session });
    connector.accept();

    expect(bob.last("session-open-ok").session).not.toBe(session);
    expect(bench.state.figures.sessions).toBe(2);
  });

  test("the id of a session that ended is not taken up again", () => {
    const { agent, connector, session } = open();
    agent.send({ type: "session-close", session, code: "NO_ERROR", reason: "" });

    agent.open("echo", { connector: connector.instance, session });

    expect(connector.last("session-offer").session).not.toBe(session);
  });

  test("two requests that end at one connector make one session, and the other id is closed", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo");
    agent.open("echo", { connector: connector.instance });
    const [first, second] = connector.got("session-offer");
    if (first === undefined || second === undefined) throw new Error("two offers");

    for (const { request } of [first, second]) {
      connector.send({ type: "session-offer-ok", request, channelId: "c00000000000000b" });
    }

    expect(connector.last("session-close").session).toBe(second.session);
    expect(agent.got("session-open-ok").map(({ session }) => session)).toEqual([
      first.session,
      first.session,
    ]);
    expect(bench.state.figures).toMatchObject({ sessions: 1, channels: 1 });
  });

  test("a late answer does not close the session that came into force by another offer", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);
    const held = { connector: connector.instance, session: HELD };
    agent.open("echo", held);
    const { request } = connector.last("session-offer");
    bench.advance(seconds(4));
    agent.open("echo", held);
    connector.accept();

    connector.send({ type: "session-offer-ok", request, channelId: "c00000000000000b" });

    expect(connector.got("session-close")).toEqual([]);
    expect(agent.last("session-open-ok").session).toBe(HELD);
  });

  test("two that claim one id at once get two", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const [alice, bob] = [bench.agent("alice", ["echo"]), bench.agent("bob", ["echo"])];
    for (const agent of [alice, bob]) {
      agent.open("echo", { connector: connector.instance, session: HELD });
    }

    const ids = connector.got("session-offer").map(({ session }) => session);
    expect(new Set(ids).size).toBe(2);
  });
});

function open() {
  const bench = new RelayBench();
  const connector = bench.connector("one", ["echo"]);
  const agent = bench.agent("alice", ["echo"]);
  agent.open("echo");
  connector.accept();
  const { session } = agent.last("session-open-ok");
  return { bench, connector, agent, session };
}

function openWithTwo(options: BenchOptions = {}) {
  const bench = new RelayBench(options);
  const one = bench.connector("one", ["echo"]);
  const two = bench.connector("two", ["echo"]);
  const agent = bench.agent("alice", ["echo"]);
  return { bench, one, two, agent };
}

function registration(weight: number) {
  return {
    type: "register",
    request: 1,
    services: [{ name: "echo", ports: [], weight }],
    sessions: [],
    revocationsSeen: 0,
  } as const;
}
