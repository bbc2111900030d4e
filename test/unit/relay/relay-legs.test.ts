import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import { encodeControl } from "../../../src/protocol/control-codec.ts";
import { agentLeaf, connectorLeaf, HELLO, leaf, RelayBench } from "../../support/relay-bench.ts";

const ALICE = agentLeaf("alice", ["echo"]);
const HOME = "198.51.100.7:40000";

describe("admission at the relay", () => {
  test("a client that says hello is welcomed with what it needs", () => {
    const bench = new RelayBench();

    const leg = bench.join(ALICE, { remote: HOME });

    expect(bench.outputs[0]).toEqual({ type: "admit", connection: leg.connection });
    expect(leg.last("welcome")).toMatchObject({
      relay: "relay.example:4433",
      epoch: "e".repeat(64),
      observed: HOME,
      limits: { services: 4096, sessions: 256, channels: 1024, framesPerSecond: 64 },
      stun: { addresses: ["192.0.2.1:4433"] },
    });
  });

  test("nonce and credentials differ from leg to leg", () => {
    const bench = new RelayBench();
    const one = bench.join(ALICE).last("welcome");
    const two = bench.join(agentLeaf("bob", [])).last("welcome");

    expect(one.nonce).not.toBe(two.nonce);
    expect(one.stun.username).not.toBe(two.stun.username);
    expect(one.stun.password).not.toBe(two.stun.password);
  });

  test.each([
    { name: "without a URI SAN", certificate: { ...ALICE, uris: [] }, reason: "no-uri-san" },
    {
      name: "of a relay",
      certificate: leaf("ztna://corp.example/relay/r", []),
      reason: "wrong-role",
    },
    {
      name: "of an admin",
      certificate: leaf("ztna://corp.example/admin/a", []),
      reason: "wrong-role",
    },
    {
      name: "of another domain",
      certificate: leaf("ztna://evil.example/agent/a", []),
      reason: "foreign-trust-domain",
    },
    {
      name: "that may not act as a client",
      certificate: { ...ALICE, clientAuth: false },
      reason: "wrong-key-usage",
    },
  ])("a certificate $name is refused without a word of why", ({ certificate, reason }) => {
    const bench = new RelayBench();

    const leg = bench.dial(certificate, HOME);

    expect(bench.outputs).toContainEqual({
      type: "close-connection",
      connection: leg.connection,
      code: "UNAUTHENTICATED",
      reason: "",
    });
    expect(bench.events()).toMatchObject([{ type: "leg-refused", remote: HOME, reason }]);
  });

  test("a certificate that has expired is refused", () => {
    const bench = new RelayBench();

    expect(bench.dial(ALICE, HOME, ms(0)).closeCode).toBe("UNAUTHENTICATED");
  });

  test("an identity has at most so many legs", () => {
    const bench = new RelayBench({ limits: { legsPerIdentity: 2 } });
    const legs = [bench.agent("alice", []), bench.agent("alice", []), bench.agent("alice", [])];

    expect(legs.map((leg) => leg.closeCode)).toEqual([undefined, undefined, "LIMIT_EXCEEDED"]);
    expect(bench.agent("bob", []).closeCode).toBeUndefined();
  });

  test("whoever does not say hello in 10 s is closed", () => {
    const bench = new RelayBench();
    const leg = bench.dial(ALICE, HOME);

    bench.advance(ms(9999));
    expect(leg.closeCode).toBeUndefined();

    bench.advance(ms(1));
    expect(leg.closeCode).toBe("PROTOCOL_VIOLATION");
    expect(bench.events()).toContainEqual({
      type: "protocol-violation",
      identity: "ztna://corp.example/agent/alice",
      reason: "no-hello",
      detail: "no hello in time",
    });
  });

  test("frames that the data plane cannot tell apart are a violation, and the peer may come back", () => {
    const bench = new RelayBench();
    const leg = bench.join(ALICE);

    leg.close("violation", "a frame of 65537 octets");

    expect(bench.events()).toContainEqual({
      type: "protocol-violation",
      identity: "ztna://corp.example/agent/alice",
      reason: "framing",
      detail: "a frame of 65537 octets",
    });
    expect(bench.events()).toContainEqual(
      expect.objectContaining({ type: "leg-down", reason: "lost" }),
    );
  });

  test("anything before hello ends the leg, and so does a second hello", () => {
    const bench = new RelayBench();
    const early = bench.dial(ALICE, HOME);
    early.open("echo");
    const twice = bench.join(ALICE);
    twice.send({ ...HELLO, attempt: 2 });

    expect(early.closeCode).toBe("PROTOCOL_VIOLATION");
    expect(twice.closeCode).toBe("PROTOCOL_VIOLATION");
  });

  test("a hello has at most 16,384 octets, a later frame 65,536", () => {
    const bench = new RelayBench();
    const hello = (length: number) => padded({ ...HELLO }, length);
    const [fits, over] = [bench.dial(ALICE, HOME), bench.dial(ALICE, "198.51.100.8:1")];

    fits.sendBytes(hello(16_384));
    over.sendBytes(hello(16_385));
    expect(fits.got("welcome")).toHaveLength(1);
    expect(over.closeCode).toBe("PROTOCOL_VIOLATION");

    fits.sendBytes(new TextEncoder().encode('{"type":"later"}'.padEnd(65_536)));
    expect(fits.closeCode).toBeUndefined();
    fits.sendBytes(new TextEncoder().encode('{"type":"later"}'.padEnd(65_537)));
    expect(fits.closeCode).toBe("PROTOCOL_VIOLATION");
  });

  test("a request of a later version is answered, a notice is ignored", () => {
    const bench = new RelayBench();
    const leg = bench.join(ALICE);

    leg.sendBytes(new TextEncoder().encode('{"type":"teleport","request":9}'));
    leg.sendBytes(new TextEncoder().encode('{"type":"weather"}'));
    leg.sendBytes(new TextEncoder().encode('{"type":"session-open","request":10}'));
    leg.send({ type: "reauthenticate", request: 11, chain: ["AAAA"], signature: "AAAA" });

    expect(leg.got("failed").map(({ request, code }) => [request, code])).toEqual([
      [9, "unsupported"],
      [10, "invalid"],
      [11, "unsupported"],
    ]);
    expect(leg.closeCode).toBeUndefined();
  });

  test("a role that asks for what the other may is told that it is unknown", () => {
    const bench = new RelayBench();
    const agent = bench.agent("alice", ["echo"]);
    agent.register(["echo"]);
    const connector = bench.join(connectorLeaf("one", ["echo"]));
    connector.open("echo");

    expect(agent.last("failed").code).toBe("unsupported");
    expect(connector.last("failed").code).toBe("unsupported");
  });
});

describe("legs that come and go", () => {
  test("a higher attempt takes over from the older leg", () => {
    const { bench, agent, connector } = pair();
    bench.take();

    const next = bench.join(ALICE, { instance: agent.instance, attempt: 2, remote: HOME });

    expect(agent.closeCode).toBe("SUPERSEDED");
    const channels = bench.outputs.filter(({ type }) => type.endsWith("channels"));
    expect(channels).toEqual([
      { type: "move-channels", from: agent.connection, to: next.connection },
    ]);
    expect(next.got("welcome")).toHaveLength(1);
    expect(connector.got("session-close")).toEqual([]);
  });

  test.each([1, 0])("attempt %d does not take over from attempt 1", (attempt) => {
    const { bench, agent } = pair();

    const old = bench.join(ALICE, { instance: agent.instance, attempt });

    expect(old.closeCode).toBe("SUPERSEDED");
    expect(agent.closeCode).toBeUndefined();
  });

  test("another instance of the identity is another peer", () => {
    const { bench, agent } = pair();

    const other = bench.join(ALICE);

    expect(agent.closeCode).toBeUndefined();
    expect(other.got("welcome")).toHaveLength(1);
  });

  test("another instance from the same address means that the process is gone", () => {
    const { bench, agent, connector, session } = pair();

    bench.join(ALICE, { remote: HOME });

    expect(agent.closeCode).toBe("SUPERSEDED");
    expect(connector.last("session-close")).toMatchObject({ session });
    expect(bench.outputs.some(({ type }) => type === "close-channel")).toBe(true);
  });

  test("the agents hear at once of a connector whose process is gone", () => {
    const bench = new RelayBench();
    const connector = bench.connector("one", ["echo"], { remote: "203.0.113.1:4434" });
    const agent = bench.agent("alice", ["echo"]);
    agent.open("echo");
    connector.accept();
    connector.close("lost");

    bench.connector("one", ["echo"], { remote: "203.0.113.1:4434" });

    const { session } = agent.last("session-open-ok");
    expect(agent.last("session-close")).toMatchObject({ session });
  });

  test("a lost leg keeps channel and session, and the next attempt finds them", () => {
    const { bench, agent, connector } = pair();
    const opened = bench.outputs.find(({ type }) => type === "open-channel");
    agent.close("lost");
    bench.advance(ms(119_999));
    bench.take();

    const next = bench.join(ALICE, { instance: agent.instance, attempt: 2, remote: HOME });

    expect(connector.got("session-close")).toEqual([]);
    if (opened?.type !== "open-channel") throw new Error("a channel was open");
    expect(bench.outputs).toContainEqual({
      ...opened,
      a: { ...opened.a, leg: next.connection },
    });
  });

  test("after 120 s the channel of a lost leg is closed, the session lives on", () => {
    const { bench, agent, connector, session } = pair();
    agent.close("lost");
    bench.advance(seconds(120));

    expect(bench.outputs.filter(({ type }) => type === "close-channel")).toHaveLength(1);
    expect(connector.got("session-close")).toEqual([]);

    const next = bench.join(ALICE, { instance: agent.instance, attempt: 2, remote: HOME });
    next.open("echo");
    connector.accept();
    expect(connector.last("session-offer")).toMatchObject({ session, path: { existing: false } });
    expect(next.last("session-open-ok")).toMatchObject({ session });
  });

  test("a session ends 120 s after both legs went", () => {
    const { bench, agent, connector } = pair();
    agent.close("lost");
    bench.advance(seconds(60));
    connector.close("lost");

    bench.advance(ms(119_999));
    expect(bench.state.figures.sessions).toBe(1);

    bench.advance(ms(1));
    expect(bench.state.figures).toMatchObject({ sessions: 0, channels: 0, services: 0 });
  });

  test("an instance that was lost for 120 s and has nothing is forgotten", () => {
    const bench = new RelayBench();
    const agent = bench.join(ALICE, { attempt: 9 });
    agent.close("lost");
    bench.advance(ms(119_999));
    const early = bench.join(ALICE, { instance: agent.instance, attempt: 9 });

    bench.advance(ms(1));
    const late = bench.join(ALICE, { instance: agent.instance, attempt: 1 });

    expect(early.closeCode).toBe("SUPERSEDED");
    expect(late.got("welcome")).toHaveLength(1);
  });

  test("an instance that was lost is forgotten with its last session", () => {
    const { bench, agent, connector, session } = pair();
    agent.close("lost");
    bench.advance(seconds(121));
    connector.send({ type: "session-close", session, code: "NO_ERROR", reason: "" });

    const late = bench.join(ALICE, { instance: agent.instance, attempt: 1 });

    expect(late.got("welcome")).toHaveLength(1);
  });

  test("a goodbye ends at once what the peer had", () => {
    const { bench, agent, connector, session } = pair();

    agent.close("goodbye");

    expect(connector.last("session-close")).toMatchObject({ session, code: "SHUTTING_DOWN" });
    expect(bench.state.figures).toMatchObject({ legs: 1, sessions: 0, channels: 0 });
  });

  test("the events of a leg that the relay ended change nothing", () => {
    const { bench, agent } = pair();
    bench.join(ALICE, { instance: agent.instance, attempt: 2 });
    bench.take();

    agent.open("echo");
    agent.close("goodbye");

    expect(bench.take()).toEqual([]);
    expect(bench.state.figures).toMatchObject({ sessions: 1, agents: 1 });
  });

  test("an identity has no more suspended instances than legs", () => {
    const bench = new RelayBench({ limits: { legsPerIdentity: 2 } });
    const connector = bench.connector("one", ["echo"]);
    for (let count = 0; count < 3; count++) {
      const agent = bench.agent("alice", ["echo"]);
      agent.open("echo");
      if (count === 0) connector.accept();
      else connector.accept(`c00000000000000${count * 2 + 1}`);
      agent.close("lost");
    }

    expect(bench.state.figures.sessions).toBe(2);
  });
});

function pair() {
  const bench = new RelayBench();
  const connector = bench.connector("one", ["echo"]);
  const agent = bench.agent("alice", ["echo"], { remote: HOME });
  agent.open("echo");
  connector.accept();
  const { session } = agent.last("session-open-ok");
  return { bench, connector, agent, session };
}

function padded(message: Parameters<typeof encodeControl>[0], length: number): Uint8Array {
  return new TextEncoder().encode(new TextDecoder().decode(encodeControl(message)).padEnd(length));
}
