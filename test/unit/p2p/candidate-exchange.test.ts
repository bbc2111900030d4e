import { describe, expect, test } from "bun:test";
import { type Instant, instant } from "../../../src/base/time.ts";
import {
  CandidateExchange,
  GENERATION_BURST,
  GENERATION_INTERVAL,
} from "../../../src/p2p/candidate-exchange.ts";
import type { Candidates } from "../../../src/protocol/messages.ts";

describe("candidate exchange", () => {
  test("each list of this side has a generation and credentials of its own", () => {
    let drawn = 0;
    const exchange = new CandidateExchange((octets) => String(drawn++).repeat(2 * octets));

    const first = exchange.next([]);
    const second = exchange.next([{ kind: "host", address: "10.0.0.1:4434" }]);

    expect(first).toMatchObject({ generation: 1, ufrag: "0".repeat(16), candidates: [] });
    expect(second).toMatchObject({ generation: 2, password: "3".repeat(32) });
    expect(exchange.started).toBe(true);
  });

  test("hands over what the peer sent", () => {
    const exchange = newExchange();
    const candidates = [{ kind: "srflx", address: "203.0.113.5:1" }] as const;

    expect(exchange.handleCandidates({ ...list(1), candidates }, T0)).toEqual({
      generation: 1,
      credentials: { ufrag: "0".repeat(16), password: "1".repeat(32) },
      candidates: ["203.0.113.5:1"],
    });
  });

  test.each([0, 3, 2])("a list of generation %p after 3 is stale", (generation) => {
    const exchange = newExchange();
    exchange.handleCandidates(list(3), T0);

    expect(exchange.handleCandidates(list(generation), T0)).toBe("stale-generation");
  });

  test("takes as many generations in a burst as allowed and not one more", () => {
    const exchange = newExchange();
    for (let generation = 1; generation <= GENERATION_BURST; generation++) {
      expect(exchange.handleCandidates(list(generation), T0)).toMatchObject({ generation });
    }

    expect(exchange.handleCandidates(list(9), T0)).toBe("too-often");
    expect(exchange.handleCandidates(list(9), instant(GENERATION_INTERVAL - 1))).toBe("too-often");
    expect(exchange.handleCandidates(list(9), instant(GENERATION_INTERVAL))).toMatchObject({
      generation: 9,
    });
  });
});

const T0: Instant = instant(0);

function newExchange(): CandidateExchange {
  return new CandidateExchange((octets) => "ab".repeat(octets));
}

function list(generation: number): Candidates {
  const credentials = { ufrag: "0".repeat(16), password: "1".repeat(32) };
  return { type: "candidates", generation, ...credentials, candidates: [] };
}
