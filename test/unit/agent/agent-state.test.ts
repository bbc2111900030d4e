/** The agent's life in the order in which it happens; one scenario for each rule of its machines. */
import { describe, expect, test } from "bun:test";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { REASON_CHARS_MAX } from "../../../src/protocol/limits.ts";
import {
  commands,
  events,
  legMessages,
  relayLeaf,
  tunnelMessages,
} from "../../support/client-bench.ts";
import { AgentBench, connectorLeaf, INSTANCE, sessionOf } from "./bench.ts";

describe("agent and its relays", () => {
  test("greets a relay only after its leaf was judged", () => {
    const agent = new AgentBench();
    const [dial] = agent.start();

    expect(dial).toMatchObject({ type: "dial", relay: 0 });
    expect(commands(agent.outputs, "send-control")).toEqual([]);

    agent.welcome();
    expect(agent.sentTo(0)).toMatchObject([{ type: "hello", attempt: 1 }]);
  });

  test.each([
    { name: "of another host", leaf: relayLeaf({ dnsNames: ["other.example"] }) },
    { name: "of a connector", leaf: connectorLeaf() },
    { name: "without server usage", leaf: relayLeaf({ serverAuth: false }) },
  ])("refuses a relay with a leaf $name", ({ leaf }) => {
    const agent = new AgentBench();
    agent.start();

    const caused = agent.feed({
      ...{ type: "handshake", connection: 1, kind: "leg", accepted: false, leaf },
    });

    expect(commands(caused, "admit")).toEqual([]);
    expect(commands(caused, "close-connection")).toMatchObject([
      { code: CloseCode.UNAUTHENTICATED },
    ]);
    expect(events(caused)).toMatchObject([{ type: "relay-attempt-failed", refused: true }]);
  });

  test("publishes what any relay lists, and withdraws what none does", () => {
    const agent = new AgentBench({ relays: 2 });
    agent.start();
    agent.welcome(0);
    agent.welcome(1);
    agent.list(["echo"], 0);

    expect(agent.list(["web"], 1)).toMatchObject([
      { type: "services", services: [{ name: "echo" }, { name: "web" }] },
    ]);
    expect(agent.list([], 0, 2)).toMatchObject([{ services: [{ name: "web" }] }]);
  });

  test("reconnects when a change to the list is missing", () => {
    const agent = new AgentBench().ready();

    const caused = agent.fromRelay({ type: "services", generation: 3, added: [], removed: [] });

    expect(commands(caused, "close-connection")).toHaveLength(1);
    expect(events(caused)).toMatchObject([{ type: "relay-lost" }]);
  });
});

describe("agent and its sessions", () => {
  test.each([
    [5, true],
    [6, false],
  ])("a connector %p ms away is near: %p", (rttMs, near) => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    const path = { relay: "relay.example:4433", channel: "00000000000000f1", rate: 0, rttMs };

    const opened = agent.grantSession(0, { paths: [path] });

    expect(commands(opened, "open-relayed-path")).toMatchObject([{ near }]);
  });

  test("opens a session and a tunnel for a service that is wanted, then grants it", () => {
    const agent = new AgentBench().ready();

    agent.feed({ type: "wanted", service: "echo" });
    expect(agent.asked()).toMatchObject({ service: "echo", avoid: [] });

    const opened = agent.grantSession();
    expect(commands(opened, "open-relayed-path")).toMatchObject([
      { leg: agent.leg(), receiveId: agent.asked().channelId },
    ]);
    expect(commands(opened, "connect-tunnel")).toHaveLength(1);

    agent.handshake();
    expect(agent.opens).toMatchObject([{ service: "echo", session: sessionOf("echo") }]);
    expect(commands(agent.outputs, "grant")).toEqual([]);

    const granted = agent.openOk();
    expect(commands(granted, "grant")).toEqual([
      { type: "grant", tunnel: agent.tunnel, service: "echo" },
    ]);
    expect(commands(granted, "set-local-credentials")).toHaveLength(1);
    expect(tunnelMessages(granted, agent.tunnel)).toMatchObject([
      { type: "candidates", generation: 1, candidates: [] },
    ]);
  });

  test("answers at once for a service that no relay lists, and asks nobody", () => {
    const agent = new AgentBench().ready(["web"]);

    const caused = agent.feed({ type: "wanted", service: "echo" });

    expect(commands(caused, "refuse-service")).toMatchObject([{ service: "echo", answer: 1 }]);
    expect(events(caused)).toMatchObject([{ type: "service-failed", code: "not-available" }]);
    expect(legMessages(caused, agent.leg())).toEqual([]);
  });

  test("a second service of the same connector uses the tunnel that is there", () => {
    const agent = new AgentBench().ready().granted("echo");

    agent.feed({ type: "wanted", service: "web" });
    const caused = agent.grantSession(0, { channelId: agent.asked().channelId });

    expect(commands(caused, "connect-tunnel")).toEqual([]);
    expect(agent.opens.map(({ service }) => service)).toEqual(["echo", "web"]);
    expect(commands(agent.openOk(), "grant")).toMatchObject([{ service: "web" }]);
  });

  test("a second service that the connector's leaf does not name is refused, the first one stays", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();
    agent.handshake(connectorLeaf({ dnsNames: ["connector.echo.ztna"] }));
    agent.openOk();

    agent.feed({ type: "wanted", service: "web" });
    const caused = agent.grantSession();

    expect(commands(caused, "refuse-service")).toMatchObject([{ service: "web", answer: 1 }]);
    expect(commands(caused, "revoke")).toEqual([]);
    expect(agent.access("web")?.lastFailure).toMatchObject({ code: "connector-not-entitled" });
    expect(agent.opens).toHaveLength(1);
  });

  test.each([
    { name: "of another key", leaf: connectorLeaf({ spkiSha256: "6".repeat(64) }) },
    { name: "of another identity", leaf: connectorLeaf({ uris: ["ztna://example/connector/x"] }) },
    { name: "of an agent", leaf: connectorLeaf({ uris: ["ztna://example/agent/x"] }) },
    { name: "without server usage", leaf: connectorLeaf({ serverAuth: false }) },
    { name: "without client usage", leaf: connectorLeaf({ clientAuth: false }) },
    { name: "of another trust domain", leaf: connectorLeaf({ uris: ["ztna://x/connector/a"] }) },
  ])("refuses a connector with a leaf $name and says so in its status", ({ leaf }) => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();

    const caused = agent.handshake(leaf);

    expect(commands(caused, "admit")).toEqual([]);
    // The connector is not told which identities, keys and trust domains would have done.
    const reason = "certificate does not fit this session";
    expect(commands(caused, "close-connection")).toMatchObject([{ reason }]);
    expect(commands(caused, "refuse-service")).toMatchObject([{ answer: 1 }]);
    expect(agent.access("echo")?.lastFailure).toMatchObject({ code: "connector-refused" });
    expect(commands(agent.outputs, "grant")).toEqual([]);
  });

  test("a connector that did not prove itself is avoided the next time", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();
    agent.handshake(connectorLeaf({ dnsNames: [] }));
    agent.advance(2000);

    agent.feed({ type: "wanted", service: "echo" });

    expect(agent.asked().avoid).toEqual([INSTANCE]);
  });

  test("status goes on saying what a connector lacked when there is no other", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();
    agent.handshake(connectorLeaf({ dnsNames: [] }));
    const known = agent.access("echo")?.lastFailure;
    agent.advance(2000);

    agent.feed({ type: "wanted", service: "echo" });
    const { request } = agent.asked();
    agent.fromRelay({ type: "failed", request, code: "no-connector", reason: "" });

    expect(known?.code).toBe("connector-not-entitled");
    expect(agent.access("echo")?.lastFailure).toEqual(known);
  });

  test("refuses a session on a channel that this agent did not choose", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });

    const caused = agent.grantSession(0, { channelId: "00000000000dead1" });

    expect(commands(caused, "open-relayed-path")).toEqual([]);
    expect(legMessages(caused, agent.leg())).toMatchObject([{ type: "session-close" }]);
    expect(agent.access("echo")?.lastFailure).toMatchObject({ code: "relay-misbehaves" });
  });

  test.each([
    { code: "not-available", answer: 1 },
    { code: "no-connector", answer: 3 },
    { code: "limit-exceeded", answer: 5 },
  ] as const)("answers the flows that wait with $answer after $code", ({ code, answer }) => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    const { request } = agent.asked();

    const caused = agent.fromRelay({ type: "failed", request, code, reason: "" });

    expect(commands(caused, "refuse-service")).toEqual([
      { type: "refuse-service", service: "echo", answer },
    ]);
  });

  test("asks the next relay when one has no connector", () => {
    const agent = new AgentBench({ relays: 2 }).ready(["echo"], 2);
    agent.feed({ type: "wanted", service: "echo" });
    const { request } = agent.asked(0);

    const caused = agent.fromRelay({ type: "failed", request, code: "no-connector", reason: "" });

    expect(commands(caused, "refuse-service")).toEqual([]);
    expect(agent.asked(1)).toMatchObject({ service: "echo" });
  });

  test("after a failure the next attempt waits, a little longer each time", () => {
    const agent = new AgentBench().ready();
    for (const wait of [250, 500, 1000, 1000, 1000]) {
      agent.feed({ type: "wanted", service: "echo" });
      const { request } = agent.asked();
      agent.fromRelay({ type: "failed", request, code: "no-connector", reason: "" });

      agent.feed({ type: "wanted", service: "echo" });
      expect(legMessages(agent.advance(wait - 1), agent.leg())).toEqual([]);
      expect(legMessages(agent.advance(1), agent.leg())).toMatchObject([{ type: "session-open" }]);
    }
  });

  test("flows are answered after 8 s without a relay", () => {
    const agent = new AgentBench().ready();
    agent.loseLeg();
    agent.feed({ type: "wanted", service: "echo" });

    expect(commands(agent.advance(7999), "refuse-service")).toEqual([]);
    expect(commands(agent.advance(1), "refuse-service")).toMatchObject([{ answer: 3 }]);
  });

  test("an answer that comes after its time closes the session it opened", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.advance(11_000);

    const caused = agent.grantSession();

    expect(legMessages(caused, agent.leg())).toMatchObject([
      { type: "session-close", session: sessionOf("echo") },
    ]);
  });

  test("a further session lets the idlest one go when there are as many as allowed", () => {
    const agent = new AgentBench({ sessionsMax: 1 }).ready().granted("echo");

    const caused = agent.feed({ type: "wanted", service: "web" });

    expect(legMessages(caused, agent.leg())).toMatchObject([
      { type: "session-close", session: sessionOf("echo") },
      { type: "session-open", service: "web" },
    ]);
  });

  test("a further session is refused when every one carries flows", () => {
    const agent = new AgentBench({ sessionsMax: 1 }).ready().granted("echo");
    agent.flow("opened");

    const caused = agent.feed({ type: "wanted", service: "web" });

    expect(commands(caused, "refuse-service")).toMatchObject([{ service: "web", answer: 5 }]);
  });

  test("a session carries flows until as many have closed as were opened", () => {
    const askedAfter = (closed: number) => {
      const agent = new AgentBench({ sessionsMax: 1 }).ready().granted("echo");
      agent.flow("opened", "echo", 3);
      agent.flow("closed", "echo", closed);
      return legMessages(agent.feed({ type: "wanted", service: "web" }), agent.leg());
    };

    expect(askedAfter(2)).toEqual([]);
    expect(askedAfter(3)).toMatchObject([
      { type: "session-close", session: sessionOf("echo") },
      { type: "session-open", service: "web" },
    ]);
  });

  test("a session for a service that was withdrawn meanwhile is held as any other", () => {
    const agent = new AgentBench().ready(["echo"]);
    agent.feed({ type: "wanted", service: "echo" });
    const withdrawn = agent.list([], 0, 2);
    agent.grantSession();
    agent.handshake();
    agent.openOk();
    agent.list(["echo"], 0, 3);
    agent.feed({ type: "wanted", service: "echo" });

    expect(commands(withdrawn, "refuse-service")).toMatchObject([{ service: "echo", answer: 1 }]);
    expect(agent.access("echo")?.bond?.state).toBe("granted");
    expect(agent.sentTo(0).filter(({ type }) => type === "session-open")).toHaveLength(1);
    expect(commands(agent.advance(3_600_000), "revoke")).toMatchObject([{ service: "echo" }]);
  });

  test("a session that is forbidden cuts the flows and refuses the ones that wait", () => {
    const agent = new AgentBench().ready().granted("echo");

    const caused = agent.fromRelay({
      ...{ type: "session-close", session: sessionOf("echo"), code: "FORBIDDEN", reason: "policy" },
    });

    expect(commands(caused, "revoke")).toMatchObject([{ service: "echo", code: 7 }]);
    expect(commands(caused, "refuse-service")).toMatchObject([{ service: "echo", answer: 1 }]);
    expect(agent.access("echo")?.bond).toBeUndefined();
  });

  test("a relay is told no longer reason than a message may have, whatever a connector said", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();
    agent.handshake();

    const request = agent.opens[0]?.request ?? -1;
    const reason = "x".repeat(REASON_CHARS_MAX);
    const caused = agent.fromConnector({ type: "failed", request, code: "refused", reason });

    const [told] = legMessages(caused, agent.leg());
    expect(told).toMatchObject({ type: "session-close", session: sessionOf("echo") });
    expect(told?.type === "session-close" && told.reason).toHaveLength(REASON_CHARS_MAX);
  });

  test("a lease that nobody renews is asked for again, and ends with its time", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession(0, { leaseMs: 60_000 });
    agent.handshake();
    agent.openOk();

    expect(legMessages(agent.advance(45_000), agent.leg())).toMatchObject([
      { type: "session-open", connector: INSTANCE, session: sessionOf("echo") },
    ]);
    expect(commands(agent.advance(14_999), "revoke")).toEqual([]);
    expect(commands(agent.advance(1), "revoke")).toMatchObject([{ service: "echo" }]);
  });

  test("a renewed lease goes on", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession(0, { leaseMs: 60_000 });
    agent.handshake();
    agent.openOk();
    agent.advance(30_000);

    agent.fromRelay({ type: "session-renew", session: sessionOf("echo"), leaseMs: 60_000 });

    expect(commands(agent.advance(59_999), "revoke")).toEqual([]);
  });

  test("a service that is listed no more lives on with its session and then is gone", () => {
    const agent = new AgentBench().ready().granted("echo");

    const withdrawn = agent.list(["web"], 0, 2);
    expect(commands(withdrawn, "revoke")).toEqual([]);
    expect(withdrawn).toMatchObject([{ services: [{ name: "echo" }, { name: "web" }] }]);

    const ended = agent.fromRelay({
      ...{ type: "session-close", session: sessionOf("echo"), code: "NO_ERROR", reason: "" },
    });
    expect(commands(ended, "revoke")).toMatchObject([{ service: "echo" }]);
    expect(ended).toContainEqual({ type: "services", services: [{ name: "web", ports: [] }] });
  });
});
