import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import { RelayBench } from "../../support/relay-bench.ts";

describe("sessions at the relay", () => {
  test("an agent gets a session over a channel with a connector that took the offer", () => {
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
    expect(bench.outputs).toContainEqual({
      type: "open-channel",
      a: {
        leg: agent.connection,
        relayId: answer.paths[0]?.channel ?? "",
        clientId: answer.channelId,
      },
      b: {
        leg: connector.connection,
        relayId: offer.path.channel,
        clientId: "c00000000000000b",
      },
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

  test("opening what exists renews it and resets nothing", () => {
    const { agent, connector, bench, session } = open();
    bench.advance(seconds(60));
    bench.take();

    agent.open("echo", { channelId: "ffffffffffffffff" });

    expect(connector.messages()).toEqual([{ type: "session-renew", session, leaseMs: 3_600_000 }]);
    expect(agent.last("session-open-ok")).toMatchObject({ session, channelId: "a000000000006401" });
    expect(bench.take().filter(({ type }) => type === "open-channel")).toEqual([]);
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
