/**
 * The channel ids that this agent proposed to its relays.
 *
 * A channel belongs to a pair and keeps its ids, so a relay may answer a proposal with an older one.
 * It may not answer with an id that this agent never chose.
 */
export const CHANNEL_IDS_REMEMBERED_MAX = 4096;

export class ChannelIds {
  readonly #issue: () => string;
  readonly #issued = new Set<string>();

  constructor(issue: () => string) {
    this.#issue = issue;
  }

  /** Returns an id that was not used before. The oldest are forgotten beyond the maximum. */
  issue(relay: number): string {
    const id = this.#issue();
    this.#issued.add(keyOf(relay, id));
    const [oldest] = this.#issued;
    if (this.#issued.size > CHANNEL_IDS_REMEMBERED_MAX && oldest !== undefined) {
      this.#issued.delete(oldest);
    }
    return id;
  }

  isOurs(relay: number, id: string): boolean {
    return this.#issued.has(keyOf(relay, id));
  }
}

function keyOf(relay: number, id: string): string {
  return `${relay} ${id}`;
}
