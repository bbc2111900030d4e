/**
 * Keys and certificates that a relay revoked: applied once, kept for the life of the process.
 *
 * Bounded: beyond the maximum the oldest is forgotten, and said so. A relay tells at each
 * registration what is beyond the sequence that was seen, and everything after its restart.
 */
import type { Revoked } from "../protocol/messages.ts";

/** Two megabytes of entries; an authority that revokes more is better replaced. */
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
  readonly #revoked = new Map<string, Revocation>();
  /** The highest sequence applied, by the relay's number. */
  readonly #seen = new Map<number, number>();
  #leftOut = 0;

  get all(): readonly Revocation[] {
    return [...this.#revoked.values()];
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
    if (revocation === undefined) return false;

    const key = keyOf(revocation);
    if (this.#revoked.has(key)) return false;

    this.#revoked.set(key, revocation);
    const [oldest] = this.#revoked.keys();
    if (this.#revoked.size > REVOCATIONS_MAX && oldest !== undefined) {
      this.#revoked.delete(oldest);
      this.#leftOut += 1;
    }
    return true;
  }

  hasKey(spkiSha256: string): boolean {
    return this.#revoked.has(keyOf({ type: "spki", spkiSha256 }));
  }

  hasLeaf({ spki, issuer, serial }: Leaf): boolean {
    return this.hasKey(spki) || this.#revoked.has(keyOf({ type: "certificate", issuer, serial }));
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
