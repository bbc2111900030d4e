/**
 * One side's part in the exchange of candidates and credentials inside a tunnel.
 *
 * - **An empty list is sent too**: checks on relayed paths need the credentials.
 * - **Each list has a generation of its own**, which only grows; a list that does not is stale.
 * - **One generation in five seconds, three in a burst**: what a peer sends faster is left out, so
 *   that nobody makes this side spend its checks.
 */
import { type Duration, type Instant, seconds } from "../base/time.ts";
import type { Candidates } from "../protocol/messages.ts";

export const GENERATION_INTERVAL: Duration = seconds(5);
export const GENERATION_BURST = 3;

/** Octets of `ufrag` and `password` (`docs/protocol.md`, checks), in hex twice as many digits. */
const UFRAG_OCTETS = 8;
const PASSWORD_OCTETS = 16;

export interface RemoteCandidates {
  readonly generation: number;
  readonly credentials: { readonly ufrag: string; readonly password: string };
  readonly candidates: readonly string[];
}

export type CandidateRefusal = "stale-generation" | "too-often";

export class CandidateExchange {
  readonly #randomHex: (octets: number) => string;
  #localGeneration = 0;
  #remoteGeneration = 0;
  /** When the burst is whole again; further than a burst in the future means "too often". */
  #wholeAt: number | undefined;

  /** @param randomHex must be unpredictable: the password authenticates every check. */
  constructor(randomHex: (octets: number) => string) {
    this.#randomHex = randomHex;
  }

  /** Whether this side has sent its credentials. */
  get started(): boolean {
    return this.#localGeneration > 0;
  }

  /** Returns the next list of this side, with fresh credentials. */
  next(candidates: Candidates["candidates"]): Candidates {
    this.#localGeneration += 1;
    return {
      type: "candidates",
      generation: this.#localGeneration,
      ufrag: this.#randomHex(UFRAG_OCTETS),
      password: this.#randomHex(PASSWORD_OCTETS),
      candidates,
    };
  }

  /** Returns what the data plane is to use, or why the list is left out. */
  handleCandidates(message: Candidates, now: Instant): RemoteCandidates | CandidateRefusal {
    if (message.generation <= this.#remoteGeneration) return "stale-generation";

    const wholeAt = Math.max(this.#wholeAt ?? now, now) + GENERATION_INTERVAL;
    if (wholeAt > now + GENERATION_INTERVAL * GENERATION_BURST) return "too-often";

    this.#wholeAt = wholeAt;
    this.#remoteGeneration = message.generation;
    const { generation, ufrag, password } = message;
    const candidates = message.candidates.map(({ address }) => address);
    return { generation, credentials: { ufrag, password }, candidates };
  }
}
