/** The agent under any order of anything: what must hold after every step. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { AgentOutput } from "../../../src/agent/agent-state.ts";
import type { LeafInfo } from "../../../src/policy/identity.ts";
import { EPOCH, legMessages, SPKI, tunnelMessages } from "../../support/client-bench.ts";
import { runs } from "../../support/property-runs.ts";
import { AgentBench, connectorLeaf, peer, sessionOf } from "../../unit/agent/bench.ts";

const OTHER_EPOCH = "d".repeat(64);
const KEYS = [SPKI, "6".repeat(64)] as const;
const INSTANCES = ["c".repeat(32), "b".repeat(32)] as const;
const NAMES = ["echo", "web", "game"];
const SESSIONS_MAX = 2;

describe("the agent", () => {
  test("grants nothing without a judged leaf, a session and an answer, whatever happens", () => {
    fc.assert(
      fc.property(fc.array(step(), { maxLength: 80, size: "max" }), (steps) => {
        const world = new World();
        for (const step of steps) {
          world.play(step);
          world.check();
        }
      }),
      runs(300),
    );
  });

  test("never throws on any octets of a peer", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), (frames) => {
        const agent = new AgentBench().ready().granted();
        for (const frame of frames) {
          agent.feed({ type: "control", connection: agent.tunnel, frame });
          agent.feed({ type: "control", connection: agent.leg(), frame });
        }
        agent.advance(1000);
      }),
      runs(300),
    );
  });
});

type Step = ReturnType<typeof step> extends fc.Arbitrary<infer Value> ? Value : never;

function step() {
  const relay = fc.nat(1);
  const service = fc.constantFrom(...NAMES);
  const tunnel = fc.nat(3);
  const is = <const T extends string>(name: T) => fc.constant(name);
  return fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: is("want"), service }) },
    // Chance alone seldom gets as far as a grant.
    {
      weight: 6,
      arbitrary: fc.record({
        do: is("serve"),
        relay,
        service,
        grants: fc.subarray(NAMES, { minLength: 1 }),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        ...{ do: is("session"), relay, at: fc.nat(3), key: fc.constantFrom(...KEYS) },
        ...{ instance: fc.constantFrom(...INSTANCES), service: fc.option(service, { freq: 8 }) },
        leaseMs: fc.constantFrom(2000, 3_600_000),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: is("fail"), relay, at: fc.nat(3), final: fc.boolean() }),
    },
    {
      weight: 7,
      arbitrary: fc.record({
        ...{ do: is("handshake"), tunnel, key: fc.constantFrom(...KEYS) },
        grants: fc.subarray(NAMES),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({ do: is("answer"), tunnel, at: fc.nat(3), yes: fc.boolean() }),
    },
    { weight: 2, arbitrary: fc.record({ do: is("close-service"), tunnel, service }) },
    { weight: 2, arbitrary: fc.record({ do: is("end-tunnel"), tunnel, code: fc.nat(9) }) },
    { weight: 2, arbitrary: fc.record({ do: is("silent"), tunnel, silent: fc.boolean() }) },
    {
      weight: 2,
      arbitrary: fc.record({
        ...{ do: is("end-session"), relay, service },
        code: fc.constantFrom("NO_ERROR" as const, "FORBIDDEN" as const),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: is("lists"), relay, names: fc.subarray(NAMES) }) },
    { weight: 2, arbitrary: fc.record({ do: is("lose"), relay, forgets: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: is("flow"), tunnel, service, opened: fc.boolean() }) },
    {
      weight: 4,
      arbitrary: fc.record({ do: is("wait"), ms: fc.constantFrom(1, 300, 5000, 130_000) }),
    },
  );
}

class World {
  readonly #agent = new AgentBench({ relays: 2, sessionsMax: SESSIONS_MAX }).ready(NAMES, 2);
  /** Leaves of tunnels, as fed. */
  readonly #leaves = new Map<number, LeafInfo>();
  readonly #admitted = new Set<number>();
  /** "service key" for which a relay gave a session. */
  readonly #sessions = new Set<string>();
  /** "tunnel service" for which the connector said yes. */
  readonly #answered = new Set<string>();
  readonly #epochs = [EPOCH, EPOCH];
  #read = 0;
  #generation = 10;

  play(step: Step): void {
    this.#act(step);
    this.#note(this.#agent.outputs.slice(this.#read));
    this.#read = this.#agent.outputs.length;
  }

  check(): void {
    const bonds = [...this.#agent.state.view.sessions.accesses].flatMap(({ bond, standby }) =>
      bond === undefined ? standby : [bond, ...standby],
    );
    expect(bonds.length).toBeLessThanOrEqual(SESSIONS_MAX);
    for (const { pair, links } of bonds) {
      expect(pair.services.size).toBeGreaterThan(0);
      expect([...links.values()].some(({ session }) => session !== undefined)).toBe(true);
    }
  }

  #act(step: Step): void {
    const agent = this.#agent;
    switch (step.do) {
      case "want":
        agent.feed({ type: "wanted", service: step.service });
        break;
      case "serve":
        this.#serve(step.relay, step.service, step.grants);
        break;
      case "session":
        this.#giveSession(step);
        break;
      case "fail": {
        const asked = this.#asked(step.relay, step.at);
        const code = step.final ? "not-available" : "no-connector";
        if (asked === undefined) break;
        agent.fromRelay({ type: "failed", request: asked.request, code, reason: "" }, step.relay);
        break;
      }
      case "handshake":
        this.#handshake(this.#tunnelAt(step.tunnel), step.key, step.grants);
        break;
      case "answer":
        this.#answer(this.#tunnelAt(step.tunnel), step.at, step.yes);
        break;
      case "close-service": {
        const { service } = step;
        const notice = { type: "close-service", service, code: "NO_ERROR" } as const;
        agent.fromConnector(notice, this.#tunnelAt(step.tunnel));
        break;
      }
      case "end-tunnel":
        agent.closeTunnel(step.code, this.#tunnelAt(step.tunnel));
        break;
      case "silent": {
        const tunnel = this.#tunnelAt(step.tunnel);
        agent.feed({ type: "tunnel-silent", tunnel, silent: step.silent });
        break;
      }
      default:
        this.#actOnRelay(step);
    }
  }

  #actOnRelay(step: Extract<Step, { do: "end-session" | "lists" | "lose" | "flow" | "wait" }>) {
    const agent = this.#agent;
    switch (step.do) {
      case "end-session": {
        const session = sessionOf(step.service, step.relay);
        const { code, relay } = step;
        agent.fromRelay({ type: "session-close", session, code, reason: "" }, relay);
        break;
      }
      case "lists":
        this.#generation += 1;
        agent.list(step.names, step.relay, this.#generation);
        break;
      case "lose":
        this.#restart(step.relay, step.forgets);
        break;
      case "flow": {
        const { service } = step;
        const change = step.opened ? "opened" : "closed";
        const tunnel = this.#tunnelAt(step.tunnel);
        agent.feed({
          type: "flow",
          tunnel,
          service,
          change,
          count: 1 + (tunnel % 3),
          bytesUp: 0,
          bytesDown: 0,
        });
        break;
      }
      case "wait":
        agent.advance(step.ms);
        break;
    }
  }

  /** Everything that a service needs, but perhaps for the certificate. */
  #serve(relay: number, service: string, grants: readonly string[]): void {
    this.#agent.feed({ type: "wanted", service });
    this.#agent.advance(2000);
    const [key] = KEYS;
    const [instance] = INSTANCES;
    this.#giveSession({ do: "session", relay, at: 0, key, instance, service, leaseMs: 3_600_000 });
    this.#handshake(this.#tunnelAt(0), key, grants);
    this.#note(this.#agent.outputs.slice(this.#read));
    this.#read = this.#agent.outputs.length;
    this.#answer(this.#tunnelAt(0), 0, true);
  }

  #giveSession({ relay, at, key, instance, service, leaseMs }: Extract<Step, { do: "session" }>) {
    const asked = this.#asked(relay, at);
    if (asked === undefined) return;
    const named = service ?? asked.service;
    this.#sessions.add(`${named} ${key}`);
    this.#agent.fromRelay(
      {
        ...{ type: "session-open-ok", request: asked.request, session: sessionOf(named, relay) },
        ...{ service: named, connector: peer({ spki: key, instance }), leaseMs },
        channelId: asked.channelId,
        paths: [{ relay: "relay.example:4433", channel: "00000000000000f1", rate: 0 }],
      },
      relay,
    );
  }

  #handshake(tunnel: number, key: string, grants: readonly string[]): void {
    if (this.#leaves.has(tunnel)) return;
    const dnsNames = grants.map((service) => `connector.${service}.ztna`);
    const leaf = connectorLeaf({ spkiSha256: key, dnsNames });
    this.#leaves.set(tunnel, leaf);
    this.#agent.handshake(leaf, tunnel);
  }

  #answer(tunnel: number, at: number, yes: boolean): void {
    // A peer that was not admitted is not read.
    if (!this.#admitted.has(tunnel)) return;
    const opens = tunnelMessages(this.#agent.outputs, tunnel).filter(({ type }) => type === "open");
    const open = opens.at(-1 - at);
    if (open?.type !== "open") return;
    const { request } = open;
    if (yes) this.#answered.add(`${tunnel} ${open.service}`);
    const nonce = "a".repeat(64);
    this.#agent.fromConnector(
      yes
        ? { type: "open-ok", request, features: [], nonce, ports: [] }
        : { type: "failed", request, code: "not-available", reason: "" },
      tunnel,
    );
  }

  #restart(relay: number, forgets: boolean): void {
    const agent = this.#agent;
    if (agent.state.view.relays[relay]?.leg.connection === undefined) return;
    agent.advance(6000);
    agent.loseLeg(relay);
    agent.advance(0);
    if (forgets) this.#epochs[relay] = this.#epochs[relay] === EPOCH ? OTHER_EPOCH : EPOCH;
    agent.welcome(relay, { epoch: this.#epochs[relay] });
    this.#generation += 1;
    agent.list(NAMES, relay, this.#generation);
  }

  #asked(relay: number, at: number) {
    const { outputs } = this.#agent;
    const sent = legMessages(outputs, this.#agent.leg(relay));
    const found = sent.filter(({ type }) => type === "session-open").at(-1 - at);
    return found?.type === "session-open" ? found : undefined;
  }

  /** One of the latest tunnels that were dialled. */
  #tunnelAt(at: number): number {
    const dialled = this.#agent.outputs.flatMap((it) =>
      it.type === "command" && it.command.type === "connect-tunnel" ? [it.command.connection] : [],
    );
    return dialled.at(-1 - at) ?? -1;
  }

  #note(outputs: readonly AgentOutput[]): void {
    for (const output of outputs) {
      if (output.type !== "command") continue;
      const { command } = output;
      if (command.type === "admit") this.#admitted.add(command.connection);
      if (command.type === "close-connection") this.#admitted.delete(command.connection);
      if (command.type !== "grant") continue;

      const leaf = this.#leaves.get(command.tunnel);
      expect(this.#admitted).toContain(command.tunnel);
      expect(leaf?.dnsNames).toContain(`connector.${command.service}.ztna`);
      expect([...this.#sessions]).toContain(`${command.service} ${leaf?.spkiSha256}`);
      expect([...this.#answered]).toContain(`${command.tunnel} ${command.service}`);
    }
  }
}
