/** What an operator orders, and the bounds that hold for everybody. */
import { describe, expect, test } from "bun:test";
import { after, ms } from "../../../src/base/time.ts";
import { agentLeaf, connectorLeaf, leaf, RelayBench } from "../../support/relay-bench.ts";

const ALICE = agentLeaf("alice", ["echo"]);
const HOME = "198.51.100.7:40000";

describe("the rate of control frames", () => {
  test("a burst is taken at once, the next frame waits its turn", () => {
    const bench = new RelayBench({ limits: { framesPerSecond: 10, framesBurst: 5 } });
    const leg = bench.join(ALICE);

    for (let count = 0; count < 5; count++) leg.open("echo");
    bench.advance(ms(5));
    expect(leg.got("failed")).toHaveLength(4);

    bench.advance(ms(105));
    expect(leg.got("failed")).toHaveLength(5);
  });

  test("a connector has ten times the rate", () => {
    const bench = new RelayBench({ limits: { framesPerSecond: 1, framesBurst: 2 } });
    const agent = bench.agent("alice", []);
    const connector = bench.join(connectorLeaf("one", []));

    for (let count = 0; count < 19; count++) {
      connector.sendBytes(new TextEncoder().encode(`{"type":"x","request":${count}}`));
      agent.sendBytes(new TextEncoder().encode(`{"type":"x","request":${count}}`));
    }

    expect(connector.got("failed")).toHaveLength(19);
    expect(agent.got("failed")).toHaveLength(1);
  });

  test("who keeps frames waiting for 10 s is closed", () => {
    const bench = new RelayBench({ limits: { framesPerSecond: 1, framesBurst: 1 } });
    const leg = bench.join(ALICE);
    for (let count = 0; count < 15; count++) leg.open("echo");

    bench.advance(ms(9900));
    expect(leg.closeCode).toBeUndefined();

    bench.advance(ms(200));
    expect(leg.closeCode).toBe("LIMIT_EXCEEDED");
  });
});

describe("revocation", () => {
  test("of a key ends its leg and sessions, and every connector hears of it", () => {
    const { bench, agent, connector, session } = pair();
    const other = bench.connector("two", ["web"]);

    bench.feed({ type: "revoke", name: { spki: ALICE.spkiSha256 } });

    expect(agent.closeCode).toBe("REVOKED");
    expect(connector.last("session-close")).toMatchObject({ session, code: "REVOKED" });
    for (const leg of [connector, other]) {
      expect(leg.last("revoked")).toEqual({
        type: "revoked",
        sequence: 1,
        spki: ALICE.spkiSha256,
      });
    }
    expect(bench.outputs).toContainEqual({
      type: "remember-revocation",
      revocation: { sequence: 1, spki: ALICE.spkiSha256 },
    });
  });

  test("of a certificate leaves others of its issuer alone", () => {
    const { bench, agent, connector } = pair();

    bench.feed({ type: "revoke", name: { issuer: ALICE.issuer, serial: ALICE.serial } });

    expect(agent.closeCode).toBe("REVOKED");
    expect(connector.closeCode).toBeUndefined();
  });

  test("holds for later legs, and is remembered from before", () => {
    const bench = new RelayBench({ revocations: [{ sequence: 4, spki: ALICE.spkiSha256 }] });

    expect(bench.dial(ALICE, HOME).closeCode).toBe("REVOKED");
  });

  test("of a certificate holds however many zeros its serial is written with", () => {
    const { bench, agent, connector } = pair();
    const { issuer, serial } = ALICE;

    bench.feed({ type: "revoke", name: { issuer, serial: `0000${serial}` } });
    bench.feed({ type: "revoke", name: { issuer, serial: `00${serial}` } });

    expect(agent.closeCode).toBe("REVOKED");
    expect(connector.got("revoked")).toEqual([{ type: "revoked", sequence: 1, issuer, serial }]);
    expect(bench.join(ALICE).closeCode).toBe("REVOKED");
  });

  test("that a store remembers with leading zeros holds", () => {
    const { issuer, serial } = ALICE;
    const revocations = [{ sequence: 1, issuer, serial: `00${serial}` }];

    expect(new RelayBench({ revocations }).join(ALICE).closeCode).toBe("REVOKED");
  });

  test("of what is revoked already is no news", () => {
    const bench = new RelayBench({ revocations: [{ sequence: 4, spki: ALICE.spkiSha256 }] });

    bench.feed({ type: "revoke", name: { spki: ALICE.spkiSha256 } });

    expect(bench.take()).toEqual([]);
  });
});

describe("a configuration that changes", () => {
  test("ends legs whose certificate proves nobody any longer", () => {
    const { bench, agent, connector } = pair();
    const identities = {
      trustDomains: ["other.example"],
      spiffe: new Map(),
      identities: new Map(),
    };

    bench.feed({ type: "configure", policy: { rules: [], default: "allow" }, identities });

    expect([agent.closeCode, connector.closeCode]).toEqual(["UNAUTHENTICATED", "UNAUTHENTICATED"]);
    expect(bench.state.figures).toMatchObject({ legs: 0, sessions: 0, services: 0 });
  });

  test.each(["agent", "connector"] as const)("ends what a lost %s had as well", (lost) => {
    const bench = new RelayBench();
    const trust = (...trustDomains: string[]) => {
      const identities = { trustDomains, spiffe: new Map(), identities: new Map() };
      bench.feed({ type: "configure", policy: { rules: [], default: "allow" }, identities });
    };
    trust("corp.example", "other.example");
    const domainOf = (role: string) => (role === lost ? "other.example" : "corp.example");
    const [agent, connector] = ["agent", "connector"].map((role) =>
      bench.join(leaf(`ztna://${domainOf(role)}/${role}/x`, [`${role}.echo.ztna`])),
    );
    if (agent === undefined || connector === undefined) throw new Error("two legs");
    connector.register(["echo"]);
    agent.open("echo");
    connector.accept();
    const { session } = agent.last("session-open-ok");
    const [leaver, stayer] = lost === "agent" ? [agent, connector] : [connector, agent];
    leaver.close("lost");

    trust("corp.example");

    expect(stayer.closeCode).toBeUndefined();
    expect(stayer.last("session-close")).toMatchObject({ session, code: "UNAUTHENTICATED" });
    expect(bench.state.figures).toMatchObject({ legs: 1, sessions: 0, channels: 0 });
  });
});

test("what one input causes at thousands of peers goes out in portions", () => {
  const bench = new RelayBench();
  for (let count = 0; count < 2500; count++) bench.join(connectorLeaf(`c${count}`, []));
  bench.take();

  const name = { spki: ALICE.spkiSha256 };
  bench.state.handleInput({ type: "revoke", name }, bench.now);
  let first = 0;
  while (bench.state.pollOutput() !== undefined) first++;
  const due = bench.state.pollTimeout();
  bench.advance(ms(1));

  expect(first).toBe(2000);
  expect(due).toBe(after(bench.now, ms(-1)));
  // The order itself is told, too.
  expect(bench.take()).toHaveLength(501);
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
