import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import { agentLeaf, RelayBench } from "../../support/relay-bench.ts";

describe("opening a session", () => {
  test("an agent gets one over a channel with a connector that took the offer", () => {
    const { agent, connector, bench } = open();

    const offer = connector.last("session-offer");
    const answer = agent.last("session-open-ok");
    expect(offer).toMatchObject({
      service: "echo",
      agent: { identity: "ztna://corp.example/agent/alice", instance: agent.instance },
      path: { relay: "relay.example:4433", existing: false },
      leaseMs: 3_600_000,
    });
    expect(answer).toMatchObject({
      session: offer.session,
      connector: { identity: "ztna://corp.example/connector/one", instance: connector.instance },
      leaseMs: 3_600_000,
    });
    const [agentPath] = answer.paths;
    expect(bench.outputs).toContainEqual({
      type: "open-channel",
      a: { leg: agent.connection, relayId: agentPath?.channel ?? "", clientId: answer.channelId },
      b: { leg: connector.connection, relayId: offer.path.channel, clientId: "c00000000000000b" },
      rateBps: 0,
    });
  });

  test.each([
    { name: "a service that does not exist", service: "nowhere" },
    { name: "a service that the certificate does not grant", service: "secret" },
  ])("answers $name with the same words, 5 ms later", ({ service }) => {
    const bench = new RelayBench();
    bench.connector("one", ["secret"]);
    const agent = bench.agent("alice", ["nowhere"]);

    const request = agent.open(service);
    bench.advance(ms(4));
    const early = agent.got("failed");
    bench.advance(ms(1));

    expect(early).toEqual([]);
    expect(agent.got("failed")).toEqual([
      { type: "failed", request, code: "not-available", reason: "no such service" },
    ]);
  });

  test("what a rule denies looks as if it did not exist", () => {
    const bench = new RelayBench({ policy: { rules: [NO_ALICE], default: "allow" } });
    bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);

    agent.open("echo");
    bench.advance(ms(5));

    expect(agent.last("failed").code).toBe("not-available");
    expect(bench.events()).toContainEqual({
      type: "decided",
      identity: "ztna://corp.example/agent/alice",
      spki: agentLeaf("alice", []).spkiSha256,
      service: "echo",
      decision: "deny",
      rule: "no-alice",
    });
  });

  test("what a rule denies while the connector is asked is not opened", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo");
    const policy = { rules: [NO_ALICE], default: "allow" } as const;
    bench.feed({ type: "configure", policy, identities: TRUST });

    connector.accept();
    bench.advance(ms(5));

    const { session } = connector.last("session-offer");
    expect(agent.got("session-open-ok")).toEqual([]);
    expect(agent.last("failed").code).toBe("not-available");
    expect(connector.last("session-close")).toMatchObject({ session, code: "FORBIDDEN" });
    expect(bench.state.figures).toMatchObject({ sessions: 0, channels: 0 });
  });

  test("a second service of the pair uses the channel that exists", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo", "web"]);
    const agent = bench.agent("alice", ["echo", "web"]);
    agent.open("echo");
    connector.accept();
    const first = agent.last("session-open-ok");

    agent.open("web");
    connector.accept();

    const second = agent.last("session-open-ok");
    expect(connector.last("session-offer").path.existing).toBe(true);
    expect(second).toMatchObject({ channelId: first.channelId, paths: first.paths });
    expect(bench.outputs.filter(({ type }) => type === "open-channel")).toHaveLength(1);
  });

  test("opening what exists renews it and resets nothing", () => {
    const { agent, connector, bench, session } = open();
    bench.advance(seconds(60));
    const { channelId } = agent.last("session-open-ok");
    bench.take();

    agent.open("echo", { channelId: "ffffffffffffffff" });

    expect(connector.messages()).toEqual([{ type: "session-renew", session, leaseMs: 3_600_000 }]);
    expect(agent.last("session-open-ok")).toMatchObject({ session, channelId });
    expect(bench.take().filter(({ type }) => type === "open-channel")).toEqual([]);
  });

  test("the same request twice shares one offer", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"]);
    const agent = bench.agent("alice", ["echo"]);

    const requests = Array.from({ length: 9 }, () => agent.open("echo"));
    connector.accept();

    expect(connector.got("session-offer")).toHaveLength(1);
    expect(agent.got("session-open-ok").map(({ request }) => request)).toEqual(
      requests.slice(0, 8),
    );
    expect(agent.last("failed")).toMatchObject({ request: requests[8], code: "limit-exceeded" });
  });

  test("an agent has at most so many sessions, and still renews those", () => {
    const bench = new RelayBench({ limits: { sessionsPerAgent: 2 } });
    const connector = bench.connector("one", ["a", "b", "c"]);
    const agent = bench.agent("alice", ["a", "b", "c"]);
    for (const service of ["a", "b"]) {
      agent.open(service);
      connector.accept();
    }

    agent.open("c");
    expect(agent.last("failed").code).toBe("limit-exceeded");

    agent.open("a");
    expect(agent.got("session-open-ok")).toHaveLength(3);
  });

  test("a leg has at most so many channels", () => {
    const bench = new RelayBench({ limits: { channelsPerAgentLeg: 1 } });
    const [one, two] = [bench.connector("one", ["a"]), bench.connector("two", ["b"])];
    const agent = bench.agent("alice", ["a", "b"]);
    agent.open("a");
    one.accept();

    agent.open("b");

    expect(two.got("session-offer")).toEqual([]);
    expect(agent.last("failed").code).toBe("limit-exceeded");
  });

  test("a lease ends with the certificate that ends first", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"], { lifetime: seconds(600) });
    const agent = bench.agent("alice", ["echo"], { lifetime: seconds(900) });
    agent.open("echo");
    connector.accept();

    expect(agent.last("session-open-ok").leaseMs).toBe(600_000);
  });

  test("a refused request goes to no other connector when another shares its channel", () => {
    const bench = new RelayBench();
    const one = bench.connector("one", ["echo", "web"]);
    const two = bench.connector("two", ["echo"]);
    const agent = bench.agent("alice", ["echo", "web"]);
    agent.open("echo", { channelId: "a0000000000000f1" });
    const first = one.last("session-offer");
    agent.open("web", { channelId: "a0000000000000f3" });

    one.send({ type: "failed", request: first.request, code: "refused", reason: "" });
    one.accept();

    expect(two.got("session-offer")).toEqual([]);
    expect(agent.last("failed").code).toBe("refused");
    expect(agent.last("session-open-ok")).toMatchObject({
      service: "web",
      channelId: "a0000000000000f1",
    });
  });
});

describe("the life of a session", () => {
  test("is renewed at half of its lease, on both sides", () => {
    const { agent, connector, bench, session } = open();

    bench.advance(ms(1_799_999));
    expect(agent.got("session-renew")).toEqual([]);

    bench.advance(ms(1));
    const renewal = { type: "session-renew", session, leaseMs: 3_600_000 } as const;
    expect([agent.last("session-renew"), connector.last("session-renew")]).toEqual([
      renewal,
      renewal,
    ]);
  });

  test("is not renewed beyond a certificate, and ends with it", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"], { lifetime: seconds(600) });
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo");
    connector.accept();

    bench.advance(ms(599_999));
    expect(agent.got("session-renew")).toEqual([]);
    expect(bench.state.figures.sessions).toBe(1);

    bench.advance(ms(1));
    expect(agent.last("session-close").code).toBe("IDLE");
  });

  test("is not renewed while a leg is missing, and at once when it is back", () => {
    const { agent, connector, bench } = open();
    bench.advance(seconds(1795));
    agent.close("lost");
    bench.advance(seconds(60));
    expect(connector.got("session-renew")).toEqual([]);

    const leaf = agentLeaf("alice", ["echo"]);
    const next = bench.join(leaf, { instance: agent.instance, attempt: 2 });

    expect(next.got("session-renew")).toHaveLength(1);
    expect(connector.got("session-renew")).toHaveLength(1);
  });

  test.each([
    { code: "FORBIDDEN", told: "NO_ERROR" },
    { code: "REVOKED", told: "NO_ERROR" },
    { code: "UNAUTHENTICATED", told: "NO_ERROR" },
    { code: "PROTOCOL_VIOLATION", told: "NO_ERROR" },
    { code: "LIMIT_EXCEEDED", told: "LIMIT_EXCEEDED" },
    { code: "SHUTTING_DOWN", told: "SHUTTING_DOWN" },
  ] as const)("that a peer ends with $code ends for the other with $told", ({ code, told }) => {
    const { agent, connector, session } = open();

    connector.send({ type: "session-close", session, code, reason: "a\n\u001b[2Jb" });

    const reason = "a\ufffd\ufffd[2Jb";
    expect(agent.last("session-close")).toMatchObject({ session, code: told, reason });
  });

  test.each(["agent", "connector"] as const)(
    "ends when its %s closes it, and the other hears",
    (who) => {
      const sides = open();
      const other = who === "agent" ? sides.connector : sides.agent;

      sides[who].send({
        type: "session-close",
        session: sides.session,
        code: "NO_ERROR",
        reason: "done",
      });

      const close = {
        type: "session-close",
        session: sides.session,
        code: "NO_ERROR",
        reason: "done",
      };
      expect(other.got("session-close")).toEqual([close] as never);
      expect(sides[who].got("session-close")).toEqual([]);
      expect(sides.bench.state.figures).toMatchObject({ sessions: 0, channels: 0 });
    },
  );

  test("is not ended by a peer that has no part in it", () => {
    const { bench, session } = open();

    bench
      .agent("mallory", ["echo"])
      .send({ type: "session-close", session, code: "NO_ERROR", reason: "" });

    expect(bench.state.figures.sessions).toBe(1);
  });

  test("ends with FORBIDDEN when policy no longer allows it", () => {
    const { bench, agent, connector, session } = open();
    const rule = {
      id: "stop",
      effect: "deny",
      identities: ["*/alice"],
      services: ["echo"],
    } as const;

    bench.feed({
      type: "configure",
      policy: { rules: [rule], default: "allow" },
      identities: TRUST,
    });

    for (const leg of [agent, connector]) {
      expect(leg.last("session-close")).toMatchObject({ session, code: "FORBIDDEN" });
    }
  });

  test("ends with FORBIDDEN when its connector may no longer provide the service", () => {
    const { bench, agent, session } = open();
    const rule = {
      id: "stop",
      effect: "deny",
      identities: ["*/connector/*"],
      services: ["echo"],
    } as const;

    bench.feed({
      type: "configure",
      policy: { rules: [rule], default: "allow" },
      identities: TRUST,
    });

    expect(agent.last("session-close")).toMatchObject({ session, code: "FORBIDDEN" });
    expect(bench.state.figures.services).toBe(0);
  });

  test("an agent that comes back with another key is offered again with it", () => {
    const { bench, agent, connector, session } = open();
    const renewed = { ...agentLeaf("alice", ["echo"]), spkiSha256: "cd".repeat(32) };

    bench.join(renewed, { instance: agent.instance, attempt: 2 });

    const offer = connector.last("session-offer");
    expect(offer).toMatchObject({
      session,
      agent: { spki: "cd".repeat(32) },
      path: { existing: true },
    });
    connector.accept();
    expect(bench.state.figures).toMatchObject({ sessions: 1, channels: 1 });
  });

  test("what it carried is reported by its connector and by nobody else", () => {
    const { bench, agent, connector, session } = open();
    agent.send({ type: "session-close", session, code: "NO_ERROR", reason: "" });
    const stranger = bench.connector("two", ["echo"]);
    bench.take();

    stranger.send({ type: "session-closed", session, flows: 9, bytes: 9 });
    connector.send({ type: "session-closed", session, flows: 2, bytes: 1000 });

    expect(bench.events()).toEqual([
      {
        type: "session-usage",
        session,
        identity: "ztna://corp.example/agent/alice",
        service: "echo",
        flows: 2,
        bytes: 1000,
      },
    ]);
  });
});

const NO_ALICE = {
  id: "no-alice",
  effect: "deny",
  identities: ["*/alice"],
  services: ["*"],
} as const;
const TRUST = { trustDomains: ["corp.example"], spiffe: new Map(), identities: new Map() };

function open() {
  const bench = new RelayBench();
  const connector = bench.connector("one", ["echo"]);
  const agent = bench.agent("alice", ["echo"]);
  agent.open("echo");
  connector.accept();
  const { session } = agent.last("session-open-ok");
  return { bench, connector, agent, session };
}
