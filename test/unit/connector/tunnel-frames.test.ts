/** How fast a connector takes what agents say on their tunnels. */
import { describe, expect, test } from "bun:test";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { OVER_RATE_MAX } from "../../../src/protocol/frame-pacer.ts";
import { AGENT_FRAMES_BURST } from "../../../src/protocol/limits.ts";
import { commands, events, tunnelMessages } from "../../support/client-bench.ts";
import { ALICE, agent, ConnectorBench } from "./bench.ts";

describe("an agent's control frames", () => {
  test("are taken at once as many as an agent has services", () => {
    const connector = entered();

    for (let count = 0; count < AGENT_FRAMES_BURST; count++) connector.open();

    expect(answers(connector)).toHaveLength(AGENT_FRAMES_BURST);
  });

  test("wait beyond that, in order, and are all taken", () => {
    const connector = entered();
    for (let count = 0; count < AGENT_FRAMES_BURST; count++) connector.open();

    connector.open("web");
    connector.fromAgent({ type: "close-service", service: "echo", code: "NO_ERROR" });
    const atOnce = answers(connector).length;
    const early = connector.advance(15);
    const first = connector.advance(1);
    const second = connector.advance(16);

    expect([atOnce, early]).toEqual([AGENT_FRAMES_BURST, []]);
    expect(tunnelMessages(first, 1001)).toMatchObject([{ code: "not-available" }]);
    expect(commands(second, "revoke")).toMatchObject([{ service: "echo" }]);
  });

  test("that stay beyond the rate for 10 s cost the tunnel, and people hear of it once", () => {
    const connector = entered();
    for (let count = 0; count < 2000; count++) connector.open();

    const before = connector.advance(OVER_RATE_MAX - 1);
    const caused = connector.advance(1);
    connector.open();
    const later = connector.advance(30_000);

    expect(commands(before, "close-connection")).toEqual([]);
    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: 1001, code: CloseCode.LIMIT_EXCEEDED },
    ]);
    expect(events(caused).filter(({ type }) => type === "tunnel-violation")).toEqual([
      { type: "tunnel-violation", identity: ALICE, reason: "too many control frames" },
    ]);
    // What waited went with the tunnel.
    expect([tunnelMessages(later, 1001), events(later)]).toEqual([[], []]);
  });

  test("that wait hold up no other agent's", () => {
    const connector = entered();
    for (let count = 0; count < 2000; count++) connector.open();

    connector.offer({ session: "b".repeat(32), agent: agent({ instance: "b".repeat(32) }) });
    connector.tunnel({}, 1002);
    connector.open("echo", 1002);

    expect(tunnelMessages(connector.outputs, 1002)).toMatchObject([
      { type: "open-ok" },
      { type: "candidates" },
    ]);
  });

  test("that wait are nobody's when a later tunnel took the place of theirs", () => {
    const connector = entered();
    for (let count = 0; count < 300; count++) connector.open();
    connector.tunnel({}, 1002);

    const caused = connector.advance(20_000);

    expect(commands(caused, "grant")).toEqual([]);
    expect(commands(caused, "close-connection")).toEqual([]);
  });
});

function entered(): ConnectorBench {
  const connector = new ConnectorBench().ready();
  connector.offer();
  connector.tunnel();
  return connector;
}

function answers(connector: ConnectorBench) {
  return tunnelMessages(connector.outputs, 1001).filter(({ type }) => type === "open-ok");
}
