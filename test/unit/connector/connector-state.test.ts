/** The connector's life in the order in which it happens; one scenario for each rule of its machines. */
import { describe, expect, test } from "bun:test";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { commands, events, legMessages, tunnelMessages } from "../../support/client-bench.ts";
import { ALICE, agent, ConnectorBench, leaf, SERVICES } from "./bench.ts";

describe("connector and its registration", () => {
  test("registers the whole list at once when a relay welcomed it", () => {
    const connector = new ConnectorBench();
    connector.feed({ type: "start" });

    connector.welcome();

    expect(connector.registered()).toMatchObject({ services: SERVICES, sessions: [] });
  });

  test("registers again over each leg, with the sessions that it holds", () => {
    const connector = new ConnectorBench().ready().served();
    connector.advance(6000);
    connector.loseLeg();
    connector.advance(0);

    connector.welcome();

    expect(connector.registered().sessions).toEqual(["0".repeat(32)]);
  });

  test("registers again after a refusal and after silence", () => {
    const connector = new ConnectorBench();
    connector.feed({ type: "start" });
    connector.welcome();
    const { request } = connector.registered();
    connector.fromRelay({ type: "failed", request, code: "draining", reason: "" });

    expect(legMessages(connector.advance(1999), connector.leg())).toEqual([]);
    expect(legMessages(connector.advance(1), connector.leg())).toMatchObject([
      { type: "register" },
    ]);
    expect(legMessages(connector.advance(12_000), connector.leg())).toMatchObject([
      { type: "register" },
    ]);
  });

  test("a service that is not provided any more ends its sessions and is registered no more", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.feed({ type: "services", services: SERVICES.slice(1) });

    expect(commands(caused, "revoke")).toMatchObject([{ service: "echo", code: 7 }]);
    expect(connector.registered().services).toEqual(SERVICES.slice(1));
  });

  test("sessions that the relay does not know end with the registration", () => {
    const connector = new ConnectorBench().ready().served();
    connector.advance(6000);
    connector.loseLeg();
    connector.advance(0);
    connector.welcome();

    const caused = connector.registerOk(0, { close: ["0".repeat(32)] });

    expect(commands(caused, "revoke")).toMatchObject([{ service: "echo" }]);
  });
});

describe("connector and offers", () => {
  test("opens the path before it answers with the channel id that it chose", () => {
    const connector = new ConnectorBench().ready();

    const caused = connector.offer();

    const [path] = commands(caused, "open-relayed-path");
    expect(path).toMatchObject({ leg: connector.leg(), sendId: "00000000000000f1" });
    expect(legMessages(caused, connector.leg())).toEqual([
      { type: "session-offer-ok", request: 1, channelId: path?.receiveId ?? "" },
    ]);
    const order = caused.flatMap((it) => (it.type === "command" ? [it.command.type] : []));
    expect(order).toEqual(["open-relayed-path", "send-control"]);
  });

  test.each([
    [0, true],
    [5, true],
    [6, false],
    [undefined, false],
  ])("an agent %p ms away is near: %p", (rttMs, near) => {
    const path = { relay: "relay.example:4433", channel: "00000000000000f1", rate: 0 };
    const length = rttMs === undefined ? {} : { rttMs };

    const caused = new ConnectorBench().ready().offer({
      path: { ...path, existing: false, ...length },
    });

    expect(commands(caused, "open-relayed-path")).toMatchObject([{ near }]);
  });

  test("a path that moved to another leg is not near before the relay says so again", () => {
    const connector = new ConnectorBench().ready();
    const path = { relay: "relay.example:4433", channel: "00000000000000f1", rate: 0, rttMs: 1 };
    const opened = connector.offer({ path: { ...path, existing: false } });
    expect(commands(opened, "open-relayed-path")).toMatchObject([{ near: true }]);

    connector.feed({ type: "leg-silent", connection: connector.leg() });

    expect(commands(connector.welcome(), "open-relayed-path")).toMatchObject([{ near: false }]);
  });

  test("a second offer for the pair keeps the channel id", () => {
    const connector = new ConnectorBench().ready();
    const [first] = legMessages(connector.offer(), connector.leg());

    const [second] = legMessages(
      connector.offer({ service: "web", session: "2".repeat(32) }),
      connector.leg(),
    );

    expect(second).toMatchObject({ channelId: (first as { channelId: string }).channelId });
  });

  test("a second relay adds its path to the same pair", () => {
    const connector = new ConnectorBench({ relays: 2 }).ready(2);
    connector.offer({}, 0);
    const { pair } = connector;

    const caused = connector.offer({}, 1);

    expect(commands(caused, "open-relayed-path")).toMatchObject([{ pair, leg: connector.leg(1) }]);
  });

  test.each([
    { name: "a service that is not here", offer: { service: "other" }, code: "not-available" },
    {
      name: "a connector in the place of an agent",
      offer: { agent: agent({ identity: "ztna://example/connector/x" }) },
      code: "refused",
    },
    { name: "no identity", offer: { agent: agent({ identity: "alice" }) }, code: "refused" },
  ])("refuses $name", ({ offer, code }) => {
    const connector = new ConnectorBench().ready();

    const caused = connector.offer(offer);

    expect(commands(caused, "open-relayed-path")).toEqual([]);
    expect(legMessages(caused, connector.leg())).toMatchObject([{ type: "failed", code }]);
  });

  test("takes as many sessions as allowed and not one more", () => {
    const connector = new ConnectorBench({ sessionsMax: 2 }).ready();
    connector.offer({ session: "1".repeat(32) });
    const second = connector.offer({ session: "2".repeat(32), service: "web" });
    const third = connector.offer({
      ...{ session: "3".repeat(32), agent: agent({ instance: "b".repeat(32) }) },
    });

    expect(legMessages(second, connector.leg())).toMatchObject([{ type: "session-offer-ok" }]);
    expect(legMessages(third, connector.leg())).toMatchObject([
      { type: "failed", code: "limit-exceeded" },
    ]);
  });

  test("an id that a relay gives to another agent leaves the first one without it", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.offer({ agent: agent({ instance: "b".repeat(32) }) });

    expect(commands(caused, "revoke")).toMatchObject([{ tunnel: 1001, service: "echo" }]);
  });
});

describe("connector and tunnels", () => {
  test("admits the agent of a session", () => {
    const connector = new ConnectorBench().ready();
    connector.offer();

    const caused = connector.tunnel();

    expect(commands(caused, "admit")).toEqual([{ type: "admit", connection: 1001 }]);
  });

  test.each([
    { name: "another key", changes: { spkiSha256: "6".repeat(64) }, code: CloseCode.FORBIDDEN },
    {
      name: "another identity",
      changes: { uris: ["ztna://example/agent/bob"] },
      code: CloseCode.FORBIDDEN,
    },
    {
      name: "the role of a connector",
      changes: { uris: ["ztna://example/connector/x"] },
      code: CloseCode.UNAUTHENTICATED,
    },
    { name: "no client usage", changes: { clientAuth: false }, code: CloseCode.UNAUTHENTICATED },
    { name: "no URI", changes: { uris: [] }, code: CloseCode.UNAUTHENTICATED },
    { name: "two URIs", changes: { uris: [ALICE, ALICE] }, code: CloseCode.UNAUTHENTICATED },
    {
      name: "a foreign trust domain",
      changes: { uris: ["ztna://other/agent/alice"] },
      code: CloseCode.UNAUTHENTICATED,
    },
  ])("refuses a leaf with $name", ({ changes, code }) => {
    const connector = new ConnectorBench().ready();
    connector.offer();

    const caused = connector.tunnel(changes);

    expect(commands(caused, "admit")).toEqual([]);
    expect(commands(caused, "close-connection")).toMatchObject([{ connection: 1001, code }]);
    expect(events(caused)).toMatchObject([{ type: "tunnel-refused" }]);
  });

  test("refuses a tunnel over a pair that it does not know", () => {
    const connector = new ConnectorBench().ready();
    const handshake = { connection: 7, kind: "tunnel", accepted: true, pair: 99 } as const;

    const caused = connector.feed({ type: "handshake", ...handshake, leaf: leaf() });

    expect(commands(caused, "close-connection")).toMatchObject([{ code: CloseCode.FORBIDDEN }]);
  });

  test("a later tunnel of the pair supersedes the earlier one", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.tunnel({}, 1002);

    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: 1001, code: CloseCode.SUPERSEDED },
    ]);
    expect(commands(caused, "admit")).toMatchObject([{ connection: 1002 }]);
  });

  test("grants what leaf, session and connector allow together, then sends credentials", () => {
    const connector = new ConnectorBench().ready();
    connector.offer();
    connector.tunnel();

    const caused = connector.open();

    expect(commands(caused, "grant")).toEqual([{ type: "grant", tunnel: 1001, service: "echo" }]);
    expect(tunnelMessages(caused, 1001)).toMatchObject([
      { type: "open-ok", request: 1, ports: SERVICES[0]?.ports ?? [] },
      { type: "candidates", generation: 1, candidates: [] },
    ]);
    const order = caused.flatMap((it) => (it.type === "command" ? [it.command.type] : []));
    expect(order).toEqual(["grant", "send-control", "set-local-credentials", "send-control"]);
    expect(events(caused)).toEqual([
      { type: "access", identity: ALICE, service: "echo", decision: "allow", rule: "granted" },
    ]);
  });

  test("whatever is missing, the refusal has the same words", () => {
    const connector = new ConnectorBench().ready();
    connector.offer();
    connector.tunnel({ dnsNames: ["agent.echo.ztna", "agent.ghost.ztna"] });

    const withoutGrant = connector.open("web");
    const withoutService = connector.open("ghost");
    connector.offer({ session: "2".repeat(32), service: "web" });
    connector.fromRelay({
      ...{ type: "session-close", session: "0".repeat(32), code: "NO_ERROR", reason: "" },
    });
    const withoutSession = connector.open("echo");

    const refusal = { type: "failed", request: 1, code: "not-available", reason: "not available" };
    for (const caused of [withoutGrant, withoutService, withoutSession]) {
      expect(tunnelMessages(caused, 1001)).toEqual([refusal] as never);
      expect(commands(caused, "grant")).toEqual([]);
    }
    const rules = [withoutGrant, withoutService, withoutSession].flatMap(events);
    expect(rules).toMatchObject([
      { decision: "deny", rule: "certificate" },
      { decision: "deny", rule: "service" },
      { decision: "deny", rule: "session" },
    ]);
  });

  test("a frame that breaks the protocol closes the tunnel", () => {
    const connector = new ConnectorBench().ready().served();
    const frame = new TextEncoder().encode("[]");

    const caused = connector.feed({ type: "control", connection: 1001, frame });

    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: 1001, code: CloseCode.PROTOCOL_VIOLATION },
    ]);
    expect(events(caused)).toMatchObject([{ type: "tunnel-violation", identity: ALICE }]);
    const end = { by: "local", code: CloseCode.PROTOCOL_VIOLATION, application: true } as const;
    expect(
      events(connector.feed({ type: "closed", connection: 1001, ...end, reason: "" })),
    ).toEqual([]);
  });

  test("a tunnel whose frames the data plane does not take is told as a violation", () => {
    const connector = new ConnectorBench().ready().served();
    const end = { by: "local", code: CloseCode.PROTOCOL_VIOLATION, application: true } as const;

    const caused = connector.feed({ type: "closed", connection: 1001, ...end, reason: "x" });

    expect(events(caused)).toMatchObject([{ type: "tunnel-violation", identity: ALICE }]);
    expect(connector.state.view.access.pairOf(1001)).toBeUndefined();
  });

  test("a relay that breaks the protocol is told before its leg is lost", () => {
    const connector = new ConnectorBench().ready();
    const frame = new TextEncoder().encode("[]");

    const caused = connector.feed({ type: "control", connection: connector.leg(), frame });

    expect(events(caused)).toMatchObject([
      { type: "relay-violation", relay: "r1.example:4433" },
      { type: "relay-lost" },
    ]);
  });

  test("requests that this version does not know are answered as unsupported", () => {
    const connector = new ConnectorBench().ready().served();
    const frame = new TextEncoder().encode('{"type":"teleport","request":9}');

    const caused = connector.feed({ type: "control", connection: 1001, frame });

    expect(tunnelMessages(caused, 1001)).toMatchObject([{ request: 9, code: "unsupported" }]);
  });

  test("a service that the agent gives up is revoked, and may be opened again", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.fromAgent({
      ...{ type: "close-service", service: "echo", code: "NO_ERROR" },
    });

    expect(commands(caused, "revoke")).toMatchObject([{ service: "echo" }]);
    expect(commands(connector.open(), "grant")).toHaveLength(1);
  });
});
