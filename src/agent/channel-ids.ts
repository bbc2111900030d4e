/**
 * The channel ids that this agent proposed to its relays.
 *
 * - **A channel belongs to a pair and keeps its ids**, so a relay may answer a proposal with an older
 *   one. It may not answer with an id that this agent never chose.
 * - **A proposal that the relay refused, or answered with another id, is given back**, but not at once:
 *   two requests for one connector share a channel, which has the id of the first of them even where
 *   that one alone was refused. One that the relay did not answer may have become a channel all the
 *   same, and stays until the relay has forgotten it.
 */
export const CHANNEL_IDS_REMEMBERED_MAX = 4096;

/** As many as an agent has sessions: so many may be asked for together. */
export const REFUSED_IDS_KEPT_MAX = 256;

export class ChannelIds {
  readonly #issue: () => string;
  readonly #giveBack: (id: string) => void;
  /** Proposed, and in force as far as this agent knows in no channel. */
  readonly #proposed = new Map<string, Proposal>();
  /** Refused, the latest last. */
  readonly #refused = new Map<string, Proposal>();
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
      this.#return(this.#proposed, oldest);
    }
    return id;
  }

  isOurs(relay: number, id: string): boolean {
    const key = keyOf(relay, id);
    return this.#proposed.has(key) || this.#refused.has(key) || this.#answered.has(key);
  }

  /** The relay has a channel by the name of `id`: what was proposed beside it leads nowhere. */
  handleAnswered(relay: number, id: string, proposed: string | undefined): void {
    const key = keyOf(relay, id);
    this.#proposed.delete(key);
    this.#refused.delete(key);
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

    this.#refused.set(keyOf(relay, proposed), { relay, id: proposed });
    const [oldest] = this.#refused.values();
    if (this.#refused.size > REFUSED_IDS_KEPT_MAX && oldest !== undefined) {
      this.#return(this.#refused, oldest);
    }
  }

  /** The relay restarted: it has no channel left. */
  handleNewEpoch(relay: number): void {
    for (const ids of [this.#proposed, this.#refused]) {
      for (const it of [...ids.values()]) if (it.relay === relay) this.#return(ids, it);
    }
  }

  #return(from: Map<string, Proposal>, { relay, id }: Proposal): void {
    from.delete(keyOf(relay, id));
    this.#giveBack(id);
  }
}

interface Proposal {
  readonly relay: number;
  readonly id: string;
}

function keyOf(relay: number, id: string): string {
  return `${relay} ${id}`;
}
