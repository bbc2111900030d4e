/** What a connector gains that does not prove itself, floods, or ends what it grants. */
import { describe, expect, test } from "bun:test";
import { AVOID_FOR, SERVED_MIN } from "../../../src/agent/service-access.ts";
import { CloseCode } from "../../../src/protocol/close-codes.ts";
import { HELD_FRAMES_MAX } from "../../../src/protocol/frame-pacer.ts";
import { AGENT_FRAMES_BURST, CONNECTOR_FRAMES_FACTOR } from "../../../src/protocol/limits.ts";
import {
  commands,
  events,
  legMessages,
  NO_TRUST,
  TRUST,
  tunnelMessages,
} from "../../support/client-bench.ts";
import { AgentBench, CONNECTOR, connectorLeaf } from "./bench.ts";

describe("a connector that did not prove itself", () => {
  test("may do so after a minute", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();
    agent.handshake(connectorLeaf({ dnsNames: [] }));
    agent.advance(AVOID_FOR);

    agent.feed({ type: "wanted", service: "echo" });
    expect(agent.asked().avoid).toEqual([]);
    agent.grantSession();
    agent.handshake();

    expect(commands(agent.openOk(), "grant")).toMatchObject([{ service: "echo" }]);
  });

  test("has no session before that, whatever the relay answers", () => {
    const agent = new AgentBench().ready();
    agent.feed({ type: "wanted", service: "echo" });
    agent.grantSession();
    agent.handshake(connectorLeaf({ dnsNames: [] }));
    agent.advance(AVOID_FOR - 1);

    agent.feed({ type: "wanted", service: "echo" });

    expect(commands(agent.grantSession(), "connect-tunnel")).toEqual([]);
  });
});

describe("a connector that ends what it grants", () => {
  test("is asked again after a pause that grows, a second at most while somebody waits", () => {
    const agent = new AgentBench().ready(["echo"]);
    agent.feed({ type: "wanted", service: "echo" });

    for (const wait of [250, 500, 1000, 1000]) {
      grantAndEnd(agent);
      agent.feed({ type: "wanted", service: "echo" });
      expect(asks(agent.advance(wait - 1), agent)).toBe(0);
      expect(asks(agent.advance(1), agent)).toBe(1);
    }
  });

  test("is asked ever more rarely for a service that is warm and that nobody waits for", () => {
    const agent = new AgentBench({ warm: ["echo"] }).ready(["echo"]);

    for (const wait of [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      expect(asks(grantAndEnd(agent), agent)).toBe(0);
      expect(asks(agent.advance(wait - 1), agent)).toBe(0);
      expect(asks(agent.advance(1), agent)).toBe(1);
    }
  });

  test("after it served for a while is asked again at once", () => {
    const asksAfter = (served: number) => {
      const agent = new AgentBench({ warm: ["echo"] }).ready(["echo"]);
      agent.grantSession();
      agent.handshake();
      agent.openOk();
      agent.advance(served);
      return asks(closeService(agent), agent);
    };

    expect([asksAfter(SERVED_MIN - 1), asksAfter(SERVED_MIN)]).toEqual([0, 1]);
  });
});

describe("a connector that floods its tunnel", () => {
  test("is answered as fast as connectors may ask, and no faster", () => {
    const agent = new AgentBench().ready().granted();
    ask(agent, BURST - 1);

    const { length: before } = answers(agent);
    ask(agent, 2);

    expect(answers(agent).length - before).toBe(0);
    agent.advance(2);
    expect(answers(agent).length - before).toBe(1);
    agent.advance(2);
    expect(answers(agent).length - before).toBe(2);
  });

  test("loses the tunnel when too many of its frames wait, and people hear of it once", () => {
    const agent = new AgentBench().ready().granted();
    const { tunnel } = agent;
    ask(agent, BURST + HELD_FRAMES_MAX - 1);
    const { length: before } = agent.outputs;

    ask(agent, 9);
    agent.advance(20_000);

    const caused = agent.outputs.slice(before);
    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: tunnel, code: CloseCode.LIMIT_EXCEEDED },
    ]);
    expect(events(caused).filter(({ type }) => type === "tunnel-violation")).toEqual([
      { type: "tunnel-violation", peer: CONNECTOR, reason: "too many control frames" },
    ]);
    // What waited went with the tunnel.
    expect(tunnelMessages(caused, tunnel)).toEqual([]);
  });
});

describe("a reload that trusts fewer", () => {
  test("ends the tunnel with a connector that proves nobody by it", () => {
    let trust = TRUST;
    const agent = new AgentBench({ connectorTrust: () => trust }).ready().granted();
    const { tunnel } = agent;

    expect(agent.feed({ type: "identities" })).toEqual([]);
    trust = NO_TRUST;
    const caused = agent.feed({ type: "identities" });

    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: tunnel, code: CloseCode.UNAUTHENTICATED },
    ]);
    expect(events(caused)).toMatchObject([{ type: "service-ended", code: "connector-refused" }]);
  });

  test("ends the leg with a relay that it does not trust, and dials it again", () => {
    let trust = TRUST;
    const agent = new AgentBench({ relayTrust: () => trust }).ready();
    const leg = agent.leg();

    expect(agent.feed({ type: "identities" })).toEqual([]);
    trust = NO_TRUST;
    const caused = agent.feed({ type: "identities" });

    expect(commands(caused, "close-connection")).toMatchObject([
      { connection: leg, code: CloseCode.UNAUTHENTICATED },
    ]);
    expect(events(caused)).toMatchObject([{ type: "relay-lost" }]);
    expect(agent.advance(250)).toMatchObject([{ type: "dial", relay: 0 }]);
  });
});

const BURST = AGENT_FRAMES_BURST * CONNECTOR_FRAMES_FACTOR;

/** Answers the session-open under way, and `open`, and ends the service at once. */
function grantAndEnd(agent: AgentBench) {
  agent.grantSession();
  agent.handshake();
  agent.openOk();
  return closeService(agent);
}

function closeService(agent: AgentBench) {
  return agent.fromConnector({ type: "close-service", service: "echo", code: "NO_ERROR" });
}

function asks(caused: ReturnType<AgentBench["advance"]>, agent: AgentBench): number {
  const sent = legMessages(caused, agent.leg());
  return sent.filter(({ type }) => type === "session-open").length;
}

/** Sends requests that an agent answers and does not do; the first of a tunnel was its `open-ok`. */
function ask(agent: AgentBench, count: number): void {
  const { tunnel } = agent;
  for (let request = 0; request < count; request++) {
    agent.fromConnector({ type: "spray", request, ports: [], startInMs: 0 }, tunnel);
  }
}

function answers(agent: AgentBench) {
  return tunnelMessages(agent.outputs, agent.tunnel).filter(({ type }) => type === "failed");
}
