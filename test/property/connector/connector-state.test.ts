/** The connector under any order of anything: what must hold after every step. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ConnectorOutput } from "../../../src/connector/connector-values.ts";
import type { LeafInfo } from "../../../src/policy/identity.ts";
import { EPOCH, OTHER_EPOCH } from "../../support/client-bench.ts";
import { runs } from "../../support/property-runs.ts";
import { agent, ConnectorBench, leaf, SERVICES } from "../../unit/connector/bench.ts";

const KEYS = ["5".repeat(64), "6".repeat(64)] as const;
const INSTANCES = ["a".repeat(32), "b".repeat(32)] as const;
const SESSIONS = [1, 2, 3, 4].map((digit) => String(digit).repeat(32));
const NAMES = ["echo", "web", "ghost"];
const CODES = ["NO_ERROR", "FORBIDDEN", "REVOKED"] as const;

describe("the connector", () => {
  test("grants nothing without leaf, session and service, whatever happens", () => {
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
        const connector = new ConnectorBench().ready().served();
        for (const frame of frames) {
          connector.feed({ type: "control", connection: 1001, frame });
          connector.feed({ type: "control", connection: connector.leg(), frame });
        }
        connector.advance(1000);
      }),
      runs(300),
    );
  });
});

type Step = ReturnType<typeof step> extends fc.Arbitrary<infer Value> ? Value : never;

function step() {
  const relay = fc.nat(1);
  const session = fc.constantFrom(...SESSIONS);
  const service = fc.constantFrom(...NAMES);
  const key = fc.constantFrom(...KEYS);
  const tunnel = fc.integer({ min: 1001, max: 1003 });
  const is = <const T extends string>(name: T) => fc.constant(name);
  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        ...{ do: is("offer"), relay, session, service, key },
        ...{ instance: fc.constantFrom(...INSTANCES), leaseMs: fc.constantFrom(1000, 3_600_000) },
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        ...{ do: is("tunnel"), tunnel, key, pair: fc.integer({ min: 1, max: 3 }) },
        grants: fc.subarray(NAMES),
      }),
    },
    { weight: 6, arbitrary: fc.record({ do: is("open"), tunnel, service }) },
    // Chance alone seldom gets as far as a grant.
    { weight: 6, arbitrary: fc.record({ do: is("serve"), relay, session, tunnel, service }) },
    { weight: 2, arbitrary: fc.record({ do: is("give-up"), tunnel, service }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: is("close"), relay, session, code: fc.constantFrom(...CODES) }),
    },
    { weight: 1, arbitrary: fc.record({ do: is("revoke"), relay, key }) },
    { weight: 1, arbitrary: fc.record({ do: is("provide"), names: fc.subarray(["echo", "web"]) }) },
    { weight: 2, arbitrary: fc.record({ do: is("lose"), relay, forgets: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: is("end-tunnel"), tunnel }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: is("wait"), ms: fc.constantFrom(1, 100, 2000, 130_000) }),
    },
  );
}

class World {
  readonly #connector = new ConnectorBench({ relays: 2 }).ready(2);
  /** Leaves of tunnels, as fed. */
  readonly #leaves = new Map<number, LeafInfo>();
  readonly #granted = new Set<string>();
  readonly #revoked = new Set<string>();
  readonly #epochs = [EPOCH, EPOCH];
  #provided: readonly string[] = ["echo", "web"];
  #read = 0;

  play(step: Step): void {
    const connector = this.#connector;
    switch (step.do) {
      case "offer": {
        const { relay, session, service, key: spki, instance, leaseMs } = step;
        connector.offer({ session, service, agent: agent({ spki, instance }), leaseMs }, relay);
        break;
      }
      case "serve": {
        const { relay, session, service, tunnel } = step;
        connector.offer({ session, service, agent: agent(), leaseMs: 3_600_000 }, relay);
        this.#dial(tunnel, KEYS[0], connector.pair, NAMES);
        connector.open(service, tunnel);
        break;
      }
      case "tunnel":
        this.#dial(step.tunnel, step.key, step.pair, step.grants);
        break;
      case "open":
        connector.open(step.service, step.tunnel);
        break;
      case "give-up": {
        const { service, tunnel } = step;
        connector.fromAgent({ type: "close-service", service, code: "NO_ERROR" }, tunnel);
        break;
      }
      case "close": {
        const { session, code, relay } = step;
        connector.fromRelay({ type: "session-close", session, code, reason: "" }, relay);
        break;
      }
      case "revoke":
        this.#revoked.add(step.key);
        connector.fromRelay({ type: "revoked", spki: step.key }, step.relay);
        if (connector.state.view.relays[step.relay]?.leg.connection === undefined) {
          this.#revoked.delete(step.key);
        }
        break;
      case "provide": {
        this.#provided = step.names;
        const services = SERVICES.filter(({ name }) => step.names.includes(name));
        connector.feed({ type: "services", services });
        break;
      }
      case "lose":
        this.#restart(step.relay, step.forgets);
        break;
      case "end-tunnel": {
        const closed = { by: "peer", code: 0, application: true, reason: "" } as const;
        connector.feed({ type: "closed", connection: step.tunnel, ...closed });
        this.#forget(step.tunnel);
        break;
      }
      case "wait":
        connector.advance(step.ms);
        break;
    }
    this.#note(connector.outputs.slice(this.#read));
    this.#read = connector.outputs.length;
  }

  check(): void {
    const sessions = [...this.#connector.state.view.access.sessions];
    for (const grant of this.#granted) {
      const [tunnel = "", service = ""] = grant.split(" ");
      const leafOf = this.#leaves.get(Number(tunnel));
      expect(leafOf?.dnsNames).toContain(`agent.${service}.ztna`);
      expect(this.#provided).toContain(service);
      expect(this.#revoked.has(leafOf?.spkiSha256 ?? "")).toBe(false);
      const allowing = sessions.filter(
        (it) => it.service === service && it.spki === leafOf?.spkiSha256,
      );
      expect(allowing.length).toBeGreaterThan(0);
    }
    for (const { spki, service, expiresAt, confirmBy } of sessions) {
      expect(this.#revoked.has(spki)).toBe(false);
      expect(this.#provided).toContain(service);
      expect(expiresAt).toBeGreaterThan(this.#connector.now);
      expect(confirmBy ?? this.#connector.now + 1).toBeGreaterThan(this.#connector.now);
    }
  }

  #dial(connection: number, key: string, pair: number, grants: readonly string[]): void {
    if (this.#leaves.has(connection)) return;
    const dnsNames = grants.map((service) => `agent.${service}.ztna`);
    const proven = leaf({ spkiSha256: key, dnsNames });
    this.#leaves.set(connection, proven);
    const handshake = { connection, kind: "tunnel", accepted: true, pair } as const;
    this.#connector.feed({ type: "handshake", ...handshake, leaf: proven });
  }

  #restart(relay: number, forgets: boolean): void {
    const connector = this.#connector;
    if (connector.state.view.relays[relay]?.leg.connection === undefined) return;
    connector.advance(6000);
    connector.loseLeg(relay);
    connector.advance(0);
    if (forgets) this.#epochs[relay] = this.#epochs[relay] === EPOCH ? OTHER_EPOCH : EPOCH;
    connector.welcome(relay, { epoch: this.#epochs[relay] });
    connector.registerOk(relay);
  }

  #note(outputs: readonly ConnectorOutput[]): void {
    for (const output of outputs) {
      if (output.type !== "command") continue;
      const { command } = output;
      if (command.type === "grant") this.#granted.add(`${command.tunnel} ${command.service}`);
      if (command.type === "revoke") this.#granted.delete(`${command.tunnel} ${command.service}`);
      if (command.type === "close-connection") this.#forget(command.connection);
    }
  }

  #forget(connection: number): void {
    this.#leaves.delete(connection);
    for (const grant of [...this.#granted]) {
      if (grant.startsWith(`${connection} `)) this.#granted.delete(grant);
    }
  }
}
