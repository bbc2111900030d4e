/** What the agent does when relays and tunnels come and go. */
import { describe, expect, test } from "bun:test";
import { WARM_SERVICES_MAX } from "../../../src/agent/warm-services.ts";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { commands, events, legMessages, tunnelMessages } from "../../support/client-bench.ts";
import { AgentBench, CONNECTOR, connectorLeaf, INSTANCE, peer, sessionOf } from "./bench.ts";

describe("agent and several relays", () => {
  test("the other relay adds its path to the same tunnel", () => {
    const agent = new AgentBench({ relays: 2 }).ready(["echo"], 2).granted();

    expect(agent.asked(1)).toMatchObject({ service: "echo", connector: INSTANCE });
    const caused = agent.grantSession(1);

    expect(commands(caused, "open-relayed-path")).toMatchObject([
      { pair: 1, leg: agent.leg(1), receiveId: agent.asked(1).channelId },
    ]);
    expect(commands(agent.outputs, "connect-tunnel")).toHaveLength(1);
  });

  test("a session that one relay ends lives on at the other", () => {
    const agent = new AgentBench({ relays: 2 }).ready(["echo"], 2).granted();
    agent.grantSession(1);

    const caused = agent.fromRelay({
      ...{ type: "session-close", session: sessionOf("echo"), code: "NO_ERROR", reason: "" },
    });

    expect(commands(caused, "revoke")).toEqual([]);
  });

  test("a relay that answers with another connector adds no path", () => {
    const agent = new AgentBench({ relays: 2 }).ready(["echo"], 2).granted();

    const caused = agent.grantSession(1, { connector: peer({ instance: "d".repeat(32) }) });

    expect(commands(caused, "open-relayed-path")).toEqual([]);
    expect(legMessages(caused, agent.leg(1))).toMatchObject([{ type: "session-close" }]);
  });
});

describe("agent and loss", () => {
  test("a leg that is replaced moves its paths, and the tunnel notices nothing", () => {
    const agent = new AgentBench().ready().granted();
    const [path] = commands(agent.outputs, "open-relayed-path");

    agent.feed({ type: "leg-silent", connection: agent.leg() });
    const caused = agent.welcome();

    expect(commands(caused, "open-relayed-path")).toMatchObject([
      { leg: agent.leg(), sendId: path?.sendId, receiveId: path?.receiveId },
    ]);
    expect(commands(caused, "close-connection").map((it) => it.connection)).toEqual([1]);
    expect(commands(caused, "revoke")).toEqual([]);
  });

  test("a path that moved to another leg is not near before the relay says so again", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    const path = { relay: "relay.example:4433", channel: "00000000000000f1", rate: 0, rttMs: 1 };
    const opened = agent.grantSession(0, { paths: [path] });
    expect(commands(opened, "open-relayed-path")).toMatchObject([{ near: true }]);

    agent.feed({ type: "leg-silent", connection: agent.leg() });

    expect(commands(agent.welcome(), "open-relayed-path")).toMatchObject([{ near: false }]);
  });

  test("after a relay restarted it is asked for what is held, by connector and session", () => {
    const agent = new AgentBench().ready().granted();
    const { channelId } = agent.asked();
    agent.advance(6000);
    agent.loseLeg();
    agent.advance(0);

    const caused = agent.welcome(0, { epoch: "d".repeat(64) });

    expect(legMessages(caused, agent.leg())).toContainEqual({
      type: "session-open",
      request: 2,
      service: "echo",
      channelId,
      connector: INSTANCE,
      avoid: [],
      session: sessionOf("echo"),
    });
    expect(commands(caused, "revoke")).toEqual([]);
    expect(commands(agent.grantSession(), "open-relayed-path")).toMatchObject([
      { pair: 1, leg: agent.leg() },
    ]);
  });

  test("a relay that does not find the connector again within 120 s ends the session", () => {
    const agent = new AgentBench().ready().granted();
    agent.advance(6000);
    agent.loseLeg();
    agent.advance(0);
    agent.welcome(0, { epoch: "d".repeat(64) });
    const failLatest = () => {
      const { request } = agent.asked();
      agent.fromRelay({ type: "failed", request, code: "no-connector", reason: "" });
    };
    failLatest();
    const revoked: number[] = [];
    for (let at = 0; at < 121; at++) {
      const caused = agent.advance(1000);
      if (legMessages(caused, agent.leg()).some(({ type }) => type === "session-open"))
        failLatest();
      if (commands(caused, "revoke").length > 0) revoked.push(at + 1);
    }

    expect(revoked).toEqual([120]);
  });

  test("a silent tunnel is replaced by another connector's and goes on serving its flows", () => {
    const agent = new AgentBench().ready().granted();
    const first = agent.tunnel;

    agent.feed({ type: "tunnel-silent", tunnel: first, silent: true });
    expect(agent.asked().avoid).toEqual([INSTANCE]);

    const other = { identity: "ztna://example/connector/edge-2", spki: "7".repeat(64) };
    agent.grantSession(0, { connector: peer({ ...other, instance: "d".repeat(32) }) });
    agent.handshake(connectorLeaf({ uris: [other.identity], spkiSha256: other.spki }));
    const caused = agent.openOk();

    expect(commands(caused, "grant")).toMatchObject([{ tunnel: agent.tunnel }]);
    expect(agent.tunnel).not.toBe(first);
    expect(commands(agent.outputs, "revoke")).toEqual([]);
  });

  test("a silent tunnel that answers before another was found takes new flows again", () => {
    const agent = new AgentBench().ready().granted();
    agent.feed({ type: "tunnel-silent", tunnel: agent.tunnel, silent: true });

    const caused = agent.feed({ type: "tunnel-silent", tunnel: agent.tunnel, silent: false });

    expect(commands(caused, "grant")).toMatchObject([{ tunnel: agent.tunnel, service: "echo" }]);
    expect(agent.access("echo")?.bond?.state).toBe("granted");
  });

  test("a silent tunnel gets its path back from a relay that restarted", () => {
    const agent = new AgentBench().ready().granted();
    const { channelId } = agent.asked();
    agent.advance(6000);
    agent.feed({ type: "tunnel-silent", tunnel: agent.tunnel, silent: true });
    agent.loseLeg();
    agent.advance(0);

    const caused = agent.welcome(0, { epoch: "d".repeat(64) });

    const named = {
      type: "session-open",
      service: "echo",
      connector: INSTANCE,
      channelId,
    } as const;
    expect(legMessages(caused, agent.leg())).toContainEqual(expect.objectContaining(named));
  });

  test("a tunnel that stays silent for 120 s resets its flows and ends", () => {
    const agent = new AgentBench().ready().granted();
    agent.feed({ type: "tunnel-silent", tunnel: agent.tunnel, silent: true });
    const tunnel = agent.tunnel;

    expect(commands(agent.advance(119_999), "close-connection")).toEqual([]);
    const caused = agent.advance(1);

    expect(commands(caused, "revoke")).toMatchObject([{ tunnel, service: "echo", code: 3 }]);
    expect(commands(caused, "close-connection")).toMatchObject([{ connection: tunnel }]);
  });

  test("a warm service gets its session before anyone asks", () => {
    const agent = new AgentBench({ warm: ["echo"] });
    agent.start();
    agent.welcome();

    const caused = agent.list(["echo"]);

    expect(legMessages(caused, agent.leg())).toMatchObject([
      { type: "session-open", service: "echo" },
    ]);
  });

  test("a service that was used becomes warm and is opened again after a loss", () => {
    const agent = new AgentBench().ready().granted();
    expect(agent.flow("opened")).toEqual([{ type: "warm", services: ["echo"] }]);
    agent.flow("closed");

    const caused = agent.closeTunnel(CloseCode.SHUTTING_DOWN);

    expect(legMessages(caused, agent.leg())).toMatchObject([
      { type: "session-close", session: sessionOf("echo") },
      { type: "session-open", service: "echo" },
    ]);
  });

  test("a session whose flows its end has just cut is asked for again, warm or not", () => {
    const others = Array.from({ length: WARM_SERVICES_MAX }, (_, index) => `warm-${index}`);
    const leaf = connectorLeaf({
      dnsNames: ["echo", ...others].map((name) => `connector.${name}.ztna`),
    });
    const askedAfter = (rest: number) => {
      const agent = new AgentBench().ready(["echo", ...others]);
      agent.feed({ type: "wanted", service: "echo" });
      agent.grantSession();
      agent.handshake(leaf);
      agent.openOk();
      agent.flow("opened");
      for (const service of others) {
        agent.feed({ type: "wanted", service });
        agent.grantSession();
        agent.openOk();
        agent.flow("opened", service);
      }
      agent.flow("closed");
      agent.advance(rest);
      const reason = "the connector is gone";
      const close = { type: "session-close", code: "NO_ERROR", reason } as const;
      const caused = agent.fromRelay({ ...close, session: sessionOf("echo") });
      return legMessages(caused, agent.leg()).filter(({ type }) => type === "session-open");
    };

    expect(askedAfter(0)).toMatchObject([{ service: "echo" }]);
    expect(askedAfter(1000)).toEqual([]);
  });

  test("a service that nobody used is let go when its tunnel goes idle", () => {
    const agent = new AgentBench().ready().granted();

    const caused = agent.closeTunnel(CloseCode.NO_ERROR);

    expect(legMessages(caused, agent.leg())).toMatchObject([{ type: "session-close" }]);
    expect(agent.access("echo")?.bond).toBeUndefined();
  });

  test("a connector that breaks the protocol loses its tunnel, and people hear of it", () => {
    const agent = new AgentBench().ready().granted();
    const frame = new TextEncoder().encode("{");

    const caused = agent.feed({ type: "control", connection: agent.tunnel, frame });

    expect(commands(caused, "close-connection")).toMatchObject([
      { code: CloseCode.PROTOCOL_VIOLATION },
    ]);
    expect(events(caused)).toMatchObject([
      { type: "tunnel-violation", peer: CONNECTOR },
      { type: "service-ended", service: "echo" },
    ]);
  });

  test("so does one whose frames the data plane does not take", () => {
    const agent = new AgentBench().ready().granted();
    const end = { by: "local", code: CloseCode.PROTOCOL_VIOLATION, application: true } as const;

    const caused = agent.feed({ type: "closed", connection: agent.tunnel, ...end, reason: "x" });

    expect(events(caused)).toMatchObject([
      { type: "tunnel-violation", peer: CONNECTOR },
      { type: "service-ended", code: "protocol-violation" },
    ]);
  });

  test("a relay that breaks the protocol is told before its leg is lost", () => {
    const agent = new AgentBench().ready();
    const frame = new TextEncoder().encode('{"type":"observed","type":"observed"}');

    const caused = agent.feed({ type: "control", connection: agent.leg(), frame });

    expect(events(caused)).toMatchObject([
      { type: "relay-violation", relay: "r1.example:4433" },
      { type: "relay-lost" },
    ]);
  });

  test("a request of a later version is answered as unsupported, on a leg and on a tunnel", () => {
    const agent = new AgentBench().ready().granted();
    const frame = new TextEncoder().encode('{"type":"teleport","request":7}');
    const unsupported = { type: "failed", request: 7, code: "unsupported" } as const;

    const onLeg = agent.feed({ type: "control", connection: agent.leg(), frame });
    const onTunnel = agent.feed({ type: "control", connection: agent.tunnel, frame });

    expect(legMessages(onLeg, agent.leg())).toMatchObject([unsupported]);
    expect(tunnelMessages(onTunnel, agent.tunnel)).toMatchObject([unsupported]);
  });

  test("what the connector sends as candidates reaches the data plane", () => {
    const agent = new AgentBench().ready().granted();

    const caused = agent.fromConnector({
      ...{ type: "candidates", generation: 1, ufrag: "0".repeat(16), password: "1".repeat(32) },
      candidates: [],
    });

    expect(commands(caused, "set-candidates")).toMatchObject([
      { tunnel: agent.tunnel, generation: 1, candidates: [] },
    ]);
    expect(agent.access("echo")?.bond?.pair.identity).toBe(CONNECTOR);
  });
});
