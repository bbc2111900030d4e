/** The relay under any order of anything: what must hold after every step. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ms } from "../../../src/base/time.ts";
import { CLOSE_CODE_NAMES } from "../../../src/protocol/close-codes.ts";
import { decodeLegMessage, encodeControl } from "../../../src/protocol/control-codec.ts";
import type { LegMessage } from "../../../src/protocol/messages.ts";
import type { HowClosed, RelayOutput } from "../../../src/relay/relay-values.ts";
import { runs } from "../../support/property-runs.ts";
import { agentLeaf, type BenchLeg, connectorLeaf, RelayBench } from "../../support/relay-bench.ts";

const SERVICES = ["echo", "web"];
/** What one peer may say to the other about the end of a session. */
const SAYABLE = ["NO_ERROR", "SHUTTING_DOWN", "LIMIT_EXCEEDED", "INTERNAL", "IDLE", "SUPERSEDED"];
/** Of a rule that comes and goes. */
const DENY = { id: "no", effect: "deny", identities: ["*/alice"], services: ["echo"] } as const;
const IDENTITIES = { trustDomains: ["corp.example"], spiffe: new Map(), identities: new Map() };

describe("the relay", () => {
  test("keeps its invariants whatever peers and operators do", () => {
    fc.assert(
      fc.property(fc.array(step(), { maxLength: 60, size: "max" }), (steps) => {
        const world = new World();
        for (const step of steps) {
          world.play(step);
          world.check();
        }
      }),
      runs(400),
    );
  });

  test("never throws on any octets of a peer", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 10 }), (frames) => {
        const bench = new RelayBench();
        for (const frame of frames) bench.agent("alice", SERVICES).sendBytes(frame);
        bench.advance(ms(100));
      }),
      runs(300),
    );
  });
});

type Step = ReturnType<typeof step> extends fc.Arbitrary<infer Value> ? Value : never;

function step() {
  const who = fc.constantFrom("alice", "bob", "one", "two");
  const service = fc.constantFrom(...SERVICES, "secret");
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant("join" as const), who, again: fc.boolean() }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("register" as const),
        who,
        services: fc.subarray(SERVICES),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant("open" as const), who, service, named: fc.boolean() }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("answer" as const),
        who,
        accept: fc.boolean(),
        at: fc.nat(5),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant("close" as const),
        who,
        at: fc.nat(5),
        code: fc.constantFrom(...CLOSE_CODE_NAMES),
        reason: fc.string({ unit: "binary", maxLength: 120 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("end" as const),
        who,
        how: fc.constantFrom("lost", "goodbye", "revoked", "violation"),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("wait" as const),
        ms: fc.constantFrom(1, 500, 1000, 6000, 130_000, 2_000_000),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("silent" as const), who }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("policy" as const), deny: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("revoke" as const), who }) },
  );
}

class World {
  readonly #bench = new RelayBench();
  readonly #legs = new Map<string, BenchLeg>();
  readonly #attempts = new Map<string, number>();
  readonly #closed = new Set<number>();
  readonly #channels = new Set<string>();
  /** Ids of channels that are over. */
  readonly #givenBack = new Set<string>();
  #seen = 0;
  #denied = false;
  readonly #revoked = new Set<string>();

  play(step: Step): void {
    if (step.do === "wait") this.#bench.advance(ms(step.ms));
    else if (step.do === "policy") this.#setPolicy(step.deny);
    else if (step.do === "join") this.#join(step.who, step.again);
    else if (step.do === "revoke") this.#revoke(step.who);
    else this.#playLeg(step);
  }

  check(): void {
    const fresh = this.#bench.outputs.slice(this.#seen);
    this.#seen = this.#bench.outputs.length;
    for (const output of fresh) this.#checkOutput(output);

    const { sessions, channels, legs } = this.#bench.state.figures;
    expect(channels).toBeLessThanOrEqual(4);
    expect(sessions).toBeLessThanOrEqual(16);
    expect(legs).toBeLessThanOrEqual(this.#legs.size + this.#attempts.size * 8);
  }

  #checkOutput(output: RelayOutput): void {
    switch (output.type) {
      case "send":
        expect(this.#closed).not.toContain(output.connection);
        expect(decodeLegMessage(encodeControl(output.message))).toEqual({
          ok: true,
          value: output.message,
        });
        this.#checkMessage(output.connection, output.message);
        break;
      case "close-connection":
        expect(this.#closed).not.toContain(output.connection);
        this.#closed.add(output.connection);
        break;
      case "open-channel":
        expect(this.#closed).not.toContain(output.a.leg);
        expect(this.#closed).not.toContain(output.b.leg);
        expect(this.#givenBack).not.toContain(output.a.relayId);
        this.#channels.add(output.a.relayId);
        break;
      case "close-channel":
        // Also of one that was offered and never opened.
        expect(this.#bench.channelIds).toContain(output.channel);
        expect(this.#givenBack).not.toContain(output.channel);
        this.#givenBack.add(output.channel);
        this.#channels.delete(output.channel);
        break;
      default:
        break;
    }
  }

  /** What was denied is not opened, and no session is opened over a channel that is not there. */
  #checkMessage(connection: number, message: LegMessage): void {
    if (message.type !== "session-open-ok") return;

    expect(SERVICES).toContain(message.service);
    expect(this.#channels).toContain(message.paths[0]?.channel ?? "");
    if (this.#legs.get("alice")?.connection === connection && this.#denied) {
      expect(message.service).not.toBe("echo");
    }
  }

  #join(who: string, again: boolean): void {
    const known = this.#legs.get(who);
    const attempt = (this.#attempts.get(who) ?? 0) + 1;
    const isAgent = who === "alice" || who === "bob";
    const leaf = isAgent ? agentLeaf(who, SERVICES) : connectorLeaf(who, SERVICES);
    const instance = again && known !== undefined ? known.instance : undefined;
    this.#attempts.set(who, attempt);
    const leg = this.#bench.join(
      leaf,
      instance === undefined ? { attempt } : { attempt, instance },
    );
    this.#legs.set(who, leg);
    if (this.#revoked.has(who)) expect(leg.got("welcome")).toEqual([]);
  }

  #playLeg(step: Exclude<Step, { do: "wait" | "policy" | "join" | "revoke" }>): void {
    const leg = this.#legs.get(step.who);
    if (leg === undefined) return;

    if (step.do === "register") leg.register(step.services);
    else if (step.do === "open") this.#open(leg, step.service, step.named);
    else if (step.do === "answer") this.#answer(leg, step.accept, step.at);
    else if (step.do === "close") this.#close(leg, step);
    else if (step.do === "end") this.#end(leg, step.how);
    else this.#bench.feed({ type: "leg-silent", connection: leg.connection });
  }

  #open(leg: BenchLeg, service: string, named: boolean): void {
    const one = this.#legs.get("one");
    leg.open(service, named && one !== undefined ? { connector: one.instance } : {});
  }

  #answer(leg: BenchLeg, accept: boolean, at: number): void {
    const offer = leg.got("session-offer").at(-1 - at);
    if (offer === undefined) return;

    const { request } = offer;
    const channelId = "c00000000000000b";
    if (accept) leg.send({ type: "session-offer-ok", request, channelId });
    else leg.send({ type: "failed", request, code: "refused", reason: "" });
  }

  #close(leg: BenchLeg, { at, code, reason }: Extract<Step, { do: "close" }>): void {
    const ids = [...leg.got("session-offer"), ...leg.got("session-open-ok")];
    const session = ids.at(-1 - at)?.session;
    if (session === undefined) return;

    const before = this.#bench.outputs.length;
    leg.send({ type: "session-close", session, code, reason });
    for (const output of this.#bench.outputs.slice(before)) {
      if (output.type === "send" && output.message.type === "session-close") {
        expect(SAYABLE).toContain(output.message.code);
        expect(output.message.reason).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      }
    }
  }

  #end(leg: BenchLeg, how: HowClosed): void {
    leg.close(how);
    // From the data plane's view as well: nothing may be sent on it from here on.
    this.check();
    this.#closed.add(leg.connection);
  }

  #setPolicy(deny: boolean): void {
    this.#denied = deny;
    const rules = deny ? [DENY] : [];
    const policy = { rules, default: "allow" } as const;
    this.#bench.feed({ type: "configure", policy, identities: IDENTITIES });
  }

  #revoke(who: string): void {
    const isAgent = who === "alice" || who === "bob";
    const { spkiSha256 } = isAgent ? agentLeaf(who, []) : connectorLeaf(who, []);
    this.#bench.feed({ type: "revoke", name: { spki: spkiSha256 } });
    this.#revoked.add(who);
  }
}
