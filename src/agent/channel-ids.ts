/**
 * The channel ids that this agent proposed to its relays.
 *
 * - **A channel belongs to a pair and keeps its ids**, so a relay may answer a proposal with an older
 *   one. It may not answer with an id that this agent never chose.
 * - **A proposal that the relay refused, or answered with another id, is given back.** One that it did
 *   not answer may have become a channel all the same, and stays until the relay has forgotten it.
 */
export const CHANNEL_IDS_REMEMBERED_MAX = 4096;

export class ChannelIds {
  readonly #issue: () => string;
  readonly #giveBack: (id: string) => void;
  /** Proposed, and in force as far as this agent knows in no channel. */
  readonly #proposed = new Map<string, Proposal>();
  /** Answered at some time, the latest last. */
  readonly #answered = new Set<string>();

  constructor(issue: () => string, giveBack: (id: string) => void) {
    this.#issue = issue;
    this.#giveBack = giveBack;
  }

  /** Returns an id that was not used before. The oldest are forgotten beyond the maximum. */
  propose(relay: number): string {
    const id = this.#issue();
    this.#proposed.set(keyOf(relay, id), { relay, id });
    const [oldest] = this.#proposed.values();
    if (this.#proposed.size > CHANNEL_IDS_REMEMBERED_MAX && oldest !== undefined) {
      this.handleRefused(oldest.relay, oldest.id);
    }
    return id;
  }

  isOurs(relay: number, id: string): boolean {
    const key = keyOf(relay, id);
    return this.#proposed.has(key) || this.#answered.has(key);
  }

  /** The relay has a channel by the name of `id`: what was proposed beside it leads nowhere. */
  handleAnswered(relay: number, id: string, proposed: string | undefined): void {
    const key = keyOf(relay, id);
    this.#proposed.delete(key);
    this.#answered.delete(key);
    this.#answered.add(key);
    const [oldest] = this.#answered;
    if (this.#answered.size > CHANNEL_IDS_REMEMBERED_MAX && oldest !== undefined) {
      this.#answered.delete(oldest);
    }
    this.handleRefused(relay, proposed);
  }

  /** The relay did not take the proposal, if there was one. */
  handleRefused(relay: number, proposed: string | undefined): void {
    if (proposed === undefined || !this.#proposed.delete(keyOf(relay, proposed))) return;
    this.#giveBack(proposed);
  }

  /** The relay restarted: it has no channel left. */
  handleNewEpoch(relay: number): void {
    for (const { relay: asked, id } of [...this.#proposed.values()]) {
      if (asked === relay) this.handleRefused(relay, id);
    }
  }
}

interface Proposal {
  readonly relay: number;
  readonly id: string;
}

function keyOf(relay: number, id: string): string {
  return `${relay} ${id}`;
}
