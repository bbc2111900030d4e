/**
 * Keys and certificates that a relay revoked: applied once, kept for the life of the process.
 *
 * - **Bounded**: beyond its share a relay's oldest entry is forgotten, and said so.
 * - **Each relay's entries are its own**: one that invents revocations forgets its own and nobody
 *   else's. A relay tells at each registration what is beyond the sequence that was seen, and
 *   everything after its restart, so what is forgotten here would not come again.
 */
import type { Revoked } from "../protocol/messages.ts";

/** Of all relays: two megabytes of entries; an authority that revokes more is better replaced. */
export const REVOCATIONS_MAX = 16_384;

export type Revocation =
  | { readonly type: "spki"; readonly spkiSha256: string }
  | { readonly type: "certificate"; readonly issuer: string; readonly serial: string };

export type RevokedName = Pick<Revoked, "sequence" | "spki" | "issuer" | "serial">;

interface Leaf {
  readonly spki: string;
  readonly issuer: string;
  readonly serial: string;
}

export class RevocationList {
  /** What each relay has told, the oldest first. */
  readonly #byRelay: readonly Map<string, Revocation>[];
  /** The highest sequence applied, by the relay's number. */
  readonly #seen = new Map<number, number>();
  #leftOut = 0;

  constructor(relays: number) {
    this.#byRelay = Array.from({ length: relays }, () => new Map<string, Revocation>());
  }

  /** Each once. */
  get all(): readonly Revocation[] {
    return [...new Map(this.#byRelay.flatMap((told) => [...told])).values()];
  }

  /** How many were forgotten because there are too many. */
  get leftOut(): number {
    return this.#leftOut;
  }

  seen(relay: number): number {
    return this.#seen.get(relay) ?? 0;
  }

  /** A relay that restarted may count from 1 again: it is asked for everything. */
  handleNewEpoch(relay: number): void {
    this.#seen.delete(relay);
  }

  /** Returns whether it was not revoked before. */
  add(relay: number, { sequence, ...name }: RevokedName): boolean {
    if (sequence !== undefined) this.#seen.set(relay, Math.max(sequence, this.seen(relay)));
    const revocation = parse(name);
    const told = this.#byRelay[relay];
    if (revocation === undefined || told === undefined) return false;

    const key = keyOf(revocation);
    const isNew = !this.#has(key);
    told.set(key, revocation);
    const [oldest] = told.keys();
    if (told.size > this.#share && oldest !== undefined) {
      told.delete(oldest);
      if (!this.#has(oldest)) this.#leftOut += 1;
    }
    return isNew;
  }

  hasKey(spkiSha256: string): boolean {
    return this.#has(keyOf({ type: "spki", spkiSha256 }));
  }

  hasLeaf({ spki, issuer, serial }: Leaf): boolean {
    return this.hasKey(spki) || this.#has(keyOf({ type: "certificate", issuer, serial }));
  }

  get #share(): number {
    return Math.floor(REVOCATIONS_MAX / this.#byRelay.length);
  }

  #has(key: string): boolean {
    return this.#byRelay.some((told) => told.has(key));
  }
}

function parse({ spki, issuer, serial }: RevokedName): Revocation | undefined {
  if (spki !== undefined) return { type: "spki", spkiSha256: spki };
  if (issuer === undefined || serial === undefined) return undefined;
  return { type: "certificate", issuer, serial };
}

function keyOf(revocation: Revocation): string {
  return revocation.type === "spki"
    ? revocation.spkiSha256
    : `${revocation.issuer} ${revocation.serial}`;
}
