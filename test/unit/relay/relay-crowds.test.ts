/** What one peer can make the relay do to others, and what others can do to one peer. */
import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import { OFFERS_PER_CONNECTOR_MAX, OFFERS_PER_IDENTITY_MAX } from "../../../src/relay/offers.ts";
import { type BenchLeg, connectorLeaf, RelayBench } from "../../support/relay-bench.ts";

describe("offers that nobody has answered yet", () => {
  test("are so many for one identity and no more, whatever it avoids and however often it runs", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const [first, second] = [bench.agent("alice", ["echo"]), bench.agent("alice", ["echo"])];
    const bob = bench.agent("bob", ["echo"]);

    flood(first, OFFERS_PER_IDENTITY_MAX);
    expect(first.got("failed")).toEqual([]);
    flood(second, 1);
    bob.open("echo");

    expect(connector.got("session-offer")).toHaveLength(OFFERS_PER_IDENTITY_MAX + 1);
    expect(second.got("failed")).toMatchObject([{ code: "limit-exceeded" }]);
    expect(bob.got("failed")).toEqual([]);
  });

  test("make room as they are answered, refused or given up", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const [alice, again] = [bench.agent("alice", ["echo"]), bench.agent("alice", ["echo"])];
    flood(alice, OFFERS_PER_IDENTITY_MAX);
    connector.refuse();
    again.open("echo");
    connector.accept();
    expect(again.got("session-open-ok")).toHaveLength(1);

    bench.advance(seconds(5));
    flood(alice, OFFERS_PER_IDENTITY_MAX + 1);

    expect(connector.got("session-offer")).toHaveLength(2 * OFFERS_PER_IDENTITY_MAX + 1);
  });

  test("send further ones to another connector", () => {
    const bench = new RelayBench();
    const one = bench.connector("one", ["echo"]);
    const alice = bench.agent("alice", ["echo"]);
    flood(alice, OFFERS_PER_IDENTITY_MAX);
    const two = bench.connector("two", ["echo"]);

    bench.agent("alice", ["echo"]).open("echo");

    expect(one.got("session-offer")).toHaveLength(OFFERS_PER_IDENTITY_MAX);
    expect(two.got("session-offer")).toHaveLength(1);
  });

  test("are so many at one connector and no more, and stay within the backlog of a connection", () => {
    const bench = new RelayBench();
    const service = "s".repeat(63);
    const connector = bench.connector("one", [service]);
    const agents = OFFERS_PER_CONNECTOR_MAX / OFFERS_PER_IDENTITY_MAX;
    for (let count = 0; count < agents; count++) {
      const agent = bench.agent(`agent-of-some-user-${count}`, [service]);
      flood(agent, OFFERS_PER_IDENTITY_MAX, service);
    }
    const last = bench.agent("last", [service]);

    last.open(service, { connector: connector.instance });

    const offers = connector.got("session-offer");
    expect(offers).toHaveLength(OFFERS_PER_CONNECTOR_MAX);
    expect(offers.reduce((sum, it) => sum + JSON.stringify(it).length + 4, 0)).toBeLessThan(
      2 ** 20,
    );
    expect(last.last("failed").code).toBe("limit-exceeded");
  });
});

describe("what others make a connector answer", () => {
  const limits = { framesPerSecond: 1, framesBurst: 3 };

  test("does not use up its own rate of frames", () => {
    const bench = new RelayBench({ limits });
    const connector = bench.connector("one", ["echo"]);
    for (let count = 0; count < 100; count++) {
      const agent = bench.agent(`a${count}`, ["echo"]);
      agent.open("echo");
      connector.accept(`c${count.toString(16).padStart(13, "0")}0b`);
      const { session } = agent.last("session-open-ok");
      agent.send({ type: "session-close", session, code: "NO_ERROR", reason: "" });
      connector.send({ type: "session-closed", session, flows: 0, bytes: 0 });
    }

    connector.register(["echo"]);

    expect(connector.got("register-ok")).toHaveLength(2);
    expect(bench.events().filter(({ type }) => type === "session-usage")).toHaveLength(100);
  });

  test("is no more than it was asked", () => {
    const bench = new RelayBench({ limits });
    const connector = bench.connector("one", ["echo"]);
    bench.agent("alice", ["echo"]).open("echo");

    for (let count = 0; count < 35; count++) connector.register(["echo"]);
    bench.advance(ms(1));

    // A burst of 30 with hello in it, and one frame for the offer.
    expect(connector.got("register-ok")).toHaveLength(30);
  });
});

test("a registration as long as a frame may be is taken at once", () => {
  const bench = new RelayBench();
  const connector = bench.join(connectorLeaf("one", ["echo"]));
  const services = [{ name: "echo", ports: [], weight: 100 }];
  const register = { type: "register", services, sessions: [], revocationsSeen: 0 } as const;

  for (let request = 1; request <= 10; request++) {
    const text = JSON.stringify({ ...register, request }).padEnd(65_536);
    connector.sendBytes(new TextEncoder().encode(text));
  }

  expect(connector.got("register-ok")).toHaveLength(10);
});

/** Opens that differ in whom they avoid, so that none joins another. */
function flood(agent: BenchLeg, count: number, service = "echo"): void {
  for (let index = 0; index < count; index++) {
    agent.open(service, { avoid: [index.toString(16).padStart(32, "f")] });
  }
}
