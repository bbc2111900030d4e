/**
 * What was revoked at this relay, numbered from 1 in the order it happened.
 *
 * The log only grows: a key that was revoked stays so. Connectors say how far they have read.
 */
import { canonicalSerial } from "../protocol/serial.ts";
import type { Revocation, RevokedName } from "./relay-values.ts";

export class RevocationLog {
  readonly #entries: Revocation[];
  readonly #spkis = new Set<string>();
  readonly #certificates = new Set<string>();

  /** @param entries as they were remembered, in order. */
  constructor(entries: readonly Revocation[]) {
    this.#entries = entries.map((entry) => spelled(entry));
    for (const entry of this.#entries) this.#index(entry);
  }

  /** The number of the last one; 0 when there is none. */
  get latest(): number {
    return this.#entries.at(-1)?.sequence ?? 0;
  }

  /** Adds a revocation, or returns `undefined` for one that is there. */
  add(name: RevokedName): Revocation | undefined {
    if (this.covers(name)) return undefined;

    const sequence = this.latest + 1;
    const revocation = spelled<Revocation>({ sequence, ...name });
    this.#entries.push(revocation);
    this.#index(revocation);
    return revocation;
  }

  /** Returns whether this key or this certificate is revoked. */
  covers(name: {
    readonly spki?: string;
    readonly issuer?: string;
    readonly serial?: string;
  }): boolean {
    const { spki, issuer, serial } = spelled(name);
    return (
      (spki !== undefined && this.#spkis.has(spki)) ||
      (issuer !== undefined && this.#certificates.has(`${issuer} ${serial}`))
    );
  }

  /**
   * Returns what happened after `seen`: everything, if `seen` is not from this log; and in any case
   * nothing up to `told`, which is.
   */
  after(seen: number, told = 0): readonly Revocation[] {
    const known = seen > this.latest ? told : Math.max(seen, told);
    return known === this.latest ? [] : this.#entries.filter(({ sequence }) => sequence > known);
  }

  #index({ spki, issuer, serial }: Revocation): void {
    if (spki !== undefined) this.#spkis.add(spki);
    if (issuer !== undefined) this.#certificates.add(`${issuer} ${serial}`);
  }
}

/** A store of an earlier version may have a serial as the operator wrote it. */
function spelled<Name extends { readonly serial?: string }>(name: Name): Name {
  const { serial } = name;
  return serial === undefined ? name : { ...name, serial: canonicalSerial(serial) };
}
