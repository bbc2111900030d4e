/** How sessions of a connector end: by order, by time, by revocation, by a relay that forgot. */
import { describe, expect, test } from "bun:test";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import {
  commands,
  events,
  legMessages,
  NO_TRUST,
  OTHER_EPOCH,
  SPKI,
  TRUST,
  tunnelMessages,
} from "../../support/client-bench.ts";
import { ALICE, agent, ConnectorBench } from "./bench.ts";

describe("the end of a session", () => {
  test("an order cuts the flows in the same step and is reported with their figures", () => {
    const connector = new ConnectorBench().ready().served();
    connector.feed({ type: "flow", tunnel: 1001, service: "echo", change: "opened", ...THREE });

    const ordered = connector.fromRelay(close("NO_ERROR"));
    connector.feed({
      ...{ type: "flow", tunnel: 1001, service: "echo", change: "closed" },
      ...{ count: 3, bytesUp: 30, bytesDown: 12 },
    });

    expect(commands(ordered, "revoke")).toEqual([
      { type: "revoke", tunnel: 1001, service: "echo", code: 7 },
    ]);
    expect(tunnelMessages(ordered, 1001)).toMatchObject([
      { type: "close-service", service: "echo" },
    ]);
    expect(legMessages(connector.advance(99), connector.leg())).toEqual([]);
    expect(legMessages(connector.advance(1), connector.leg())).toEqual([
      { type: "session-closed", session: "0".repeat(32), flows: 3, bytes: 42 },
    ]);
  });

  test("is reported with the octets of flows that the end of their tunnel cut", () => {
    const connector = new ConnectorBench().ready().served();
    connector.feed({ type: "flow", tunnel: 1001, service: "echo", change: "opened", ...THREE });
    connector.tunnel({}, 1002);

    connector.feed({
      ...{ type: "flow", tunnel: 1001, service: "echo", change: "closed" },
      ...{ count: 3, bytesUp: 30, bytesDown: 12 },
    });
    const end = { by: "local", code: CloseCode.SUPERSEDED, application: true } as const;
    connector.feed({ type: "closed", connection: 1001, ...end, reason: "a later tunnel" });

    expect(commands(connector.open("echo", 1002), "grant")).toHaveLength(1);
    expect(commands(connector.open("echo", 1001), "grant")).toEqual([]);
    connector.fromRelay(close("NO_ERROR"));
    expect(legMessages(connector.advance(100), connector.leg())).toEqual([
      { type: "session-closed", session: "0".repeat(32), flows: 3, bytes: 42 },
    ]);
  });

  test("a session at another relay keeps the service open", () => {
    const connector = new ConnectorBench({ relays: 2 }).ready(2);
    connector.offer({}, 0);
    connector.offer({}, 1);
    connector.tunnel();
    connector.open();

    expect(commands(connector.fromRelay(close("NO_ERROR"), 0), "revoke")).toEqual([]);
    const last = connector.fromRelay(close("NO_ERROR", `${"0".repeat(31)}1`), 1);
    expect(commands(last, "revoke")).toHaveLength(1);
  });

  test.each(["FORBIDDEN", "REVOKED"] as const)(
    "%s from one relay ends it at every relay",
    (code) => {
      const connector = new ConnectorBench({ relays: 2 }).ready(2);
      connector.offer({}, 0);
      connector.offer({}, 1);
      connector.tunnel();
      connector.open();

      expect(commands(connector.fromRelay(close(code), 0), "revoke")).toHaveLength(1);
      expect(tunnelMessages(connector.open(), 1001)).toMatchObject([{ code: "not-available" }]);
    },
  );

  test("a lease ends with its time unless it is renewed", () => {
    const connector = new ConnectorBench().ready();
    connector.offer({ leaseMs: 10_000 });
    connector.tunnel();
    connector.open();
    connector.advance(5000);
    connector.fromRelay({ type: "session-renew", session: "0".repeat(32), leaseMs: 10_000 });

    expect(commands(connector.advance(9999), "revoke")).toEqual([]);
    expect(commands(connector.advance(1), "revoke")).toHaveLength(1);
  });

  test("while no deadline has come nobody looks for one among the sessions", () => {
    const connector = new ConnectorBench({ relays: 2 }).ready().served();
    let looks = 0;
    for (const session of connector.state.view.access.sessions) {
      const { expiresAt } = session;
      Object.defineProperty(session, "expiresAt", {
        get() {
          looks += 1;
          return expiresAt;
        },
      });
    }

    // The second relay is dialled again and again.
    const dials = connector.advance(60_000).filter(({ type }) => type === "dial");

    expect([dials.length > 10, looks]).toEqual([true, 0]);
    connector.advance(3_600_000);
    expect(looks).toBeGreaterThan(0);
  });

  test("a lost leg ends nothing", () => {
    const connector = new ConnectorBench().ready().served();

    connector.loseLeg();

    expect(commands(connector.advance(200_000), "revoke")).toEqual([]);
  });

  test("a pair without a session is forgotten after 120 s, with its tunnel and channel", () => {
    const connector = new ConnectorBench().ready().served();
    const [path] = commands(connector.outputs, "open-relayed-path");
    connector.fromRelay(close("NO_ERROR"));

    expect(commands(connector.advance(119_999), "close-connection")).toEqual([]);
    const caused = connector.advance(1);

    expect(commands(caused, "close-connection")).toMatchObject([{ code: CloseCode.IDLE }]);
    expect(commands(caused, "close-channel")).toEqual([
      { type: "close-channel", channel: path?.receiveId ?? "" },
    ]);
  });

  test("a relay that hands one session on and on holds no more pairs than sessions may be", () => {
    const connector = new ConnectorBench({ sessionsMax: 2 }).ready().served();
    const { length: before } = connector.outputs;

    for (let index = 0; index < 9; index++) {
      const instance = index.toString(16).repeat(32);
      connector.offer({ session: "e".repeat(32), agent: agent({ instance }) });
    }

    const caused = connector.outputs.slice(before);
    expect(legMessages(caused, connector.leg()).map(({ type }) => type)).toEqual(
      Array(9).fill("session-offer-ok"),
    );
    expect(commands(caused, "open-relayed-path")).toHaveLength(9);
    expect(commands(caused, "close-channel")).toHaveLength(8);
    // The pair that is served has a session and keeps its place.
    expect(commands(caused, "close-connection")).toEqual([]);
    expect(commands(caused, "revoke")).toEqual([]);
  });

  test("a session in time keeps the pair", () => {
    const connector = new ConnectorBench().ready().served();
    connector.fromRelay(close("NO_ERROR"));
    connector.advance(60_000);

    connector.offer({ session: "4".repeat(32) });

    expect(commands(connector.advance(100_000), "close-connection")).toEqual([]);
    expect(commands(connector.open(), "grant")).toHaveLength(1);
  });
});

describe("a relay that restarted", () => {
  test("has 120 s to confirm the sessions that it gave", () => {
    const connector = restarted();

    expect(commands(connector.advance(119_999), "revoke")).toEqual([]);
    expect(commands(connector.advance(1), "revoke")).toHaveLength(1);
  });

  test("confirms a session by offering it again, and flows notice nothing", () => {
    const connector = restarted();

    const caused = connector.offer({ session: "7".repeat(32) });

    expect(commands(caused, "open-relayed-path")).toMatchObject([{ leg: connector.leg() }]);
    expect(commands(connector.advance(200_000), "revoke")).toEqual([]);
  });

  test("in the same epoch takes the paths over at once", () => {
    const connector = new ConnectorBench().ready().served();
    const [path] = commands(connector.outputs, "open-relayed-path");
    connector.feed({ type: "leg-silent", connection: connector.leg() });

    const caused = connector.welcome();

    expect(commands(caused, "open-relayed-path")).toMatchObject([
      { leg: connector.leg(), sendId: path?.sendId, receiveId: path?.receiveId },
    ]);
    expect(commands(connector.advance(200_000), "revoke")).toEqual([]);
  });
});

describe("a revocation", () => {
  test("of a key ends its sessions and tunnels and refuses it from then on", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.fromRelay({ type: "revoked", spki: SPKI, sequence: 3 });

    expect(commands(caused, "revoke")).toHaveLength(1);
    expect(commands(caused, "close-connection")).toMatchObject([{ code: CloseCode.REVOKED }]);
    expect(caused).toContainEqual({ type: "revocations" });
    expect(connector.state.view.revocations).toEqual([{ type: "spki", spkiSha256: SPKI }]);
    expect(legMessages(connector.offer(), connector.leg())).toMatchObject([{ code: "refused" }]);
  });

  test("of a certificate ends the tunnel that proved it", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.fromRelay({ type: "revoked", issuer: "30", serial: "01" });

    expect(commands(caused, "close-connection")).toMatchObject([{ code: CloseCode.REVOKED }]);
    connector.offer({ session: "8".repeat(32) });
    expect(commands(connector.tunnel(), "close-connection")).toMatchObject([
      { code: CloseCode.REVOKED },
    ]);
  });

  test("of another certificate of the same key leaves the tunnel alone", () => {
    const connector = new ConnectorBench().ready().served();

    const caused = connector.fromRelay({ type: "revoked", issuer: "30", serial: "02" });

    expect(commands(caused, "close-connection")).toEqual([]);
    expect(commands(caused, "revoke")).toEqual([]);
  });

  test("is told to the relay as seen at the next registration", () => {
    const connector = new ConnectorBench().ready();
    connector.fromRelay({ type: "revoked", spki: "9".repeat(64), sequence: 12 });
    connector.feed({ type: "services", services: [] });

    expect(connector.registered().revocationsSeen).toBe(12);
  });

  test("is asked for again from a relay that restarted, which may count from 1 again", () => {
    const connector = new ConnectorBench().ready();
    connector.fromRelay({ type: "revoked", spki: "9".repeat(64), sequence: 12 });
    connector.loseLeg();
    connector.advance(10_000);
    connector.welcome(0, { epoch: OTHER_EPOCH });

    expect(connector.registered().revocationsSeen).toBe(0);
  });

  test("that comes with the registration counts as well", () => {
    const connector = new ConnectorBench().ready().served();
    connector.feed({ type: "services", services: [{ name: "echo", ports: [], weight: 100 }] });

    const caused = connector.registerOk(0, { revoked: [{ spki: SPKI, sequence: 1 }] });

    expect(commands(caused, "close-connection")).toMatchObject([{ code: CloseCode.REVOKED }]);
  });
});

describe("a reload that trusts fewer", () => {
  test("ends the tunnels of those who prove nobody by it, and tells", () => {
    let trust = TRUST;
    const connector = new ConnectorBench({ agentTrust: () => trust }).ready().served();

    expect(connector.feed({ type: "identities" })).toEqual([]);
    trust = NO_TRUST;
    const caused = connector.feed({ type: "identities" });

    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: 1001, code: CloseCode.UNAUTHENTICATED },
    ]);
    expect(events(caused)).toMatchObject([{ type: "tunnel-refused", identity: ALICE }]);
    expect(connector.open()).toEqual([]);
  });

  test("ends the tunnel of a key that is somebody else by it", () => {
    const named = (name: string) => ({ ...TRUST, identities: new Map([[SPKI, identity(name)]]) });
    let trust = named("alice");
    const connector = new ConnectorBench({ agentTrust: () => trust }).ready();
    connector.offer();
    connector.tunnel({ uris: [] });
    expect(commands(connector.open(), "grant")).toHaveLength(1);

    trust = named("bob");
    const caused = connector.feed({ type: "identities" });

    expect(commands(caused, "close-connection")).toMatchObject([
      { code: CloseCode.UNAUTHENTICATED },
    ]);
  });
});

function identity(name: string) {
  const uri = `ztna://example/agent/${name}`;
  return { uri, trustDomain: "example", role: "agent", name } as const;
}

const THREE = { count: 3, bytesUp: 0, bytesDown: 0 };

function close(code: "NO_ERROR" | "FORBIDDEN" | "REVOKED", session = "0".repeat(32)) {
  return { type: "session-close", session, code, reason: "" } as const;
}

function restarted(): ConnectorBench {
  const connector = new ConnectorBench().ready().served();
  connector.advance(6000);
  connector.loseLeg();
  connector.advance(0);
  connector.welcome(0, { epoch: OTHER_EPOCH });
  connector.registerOk();
  return connector;
}
