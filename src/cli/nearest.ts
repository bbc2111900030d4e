/** Finds the name that somebody meant: the fewest typing mistakes away, and few enough to be one. */

/** Returns the known name nearest to `typed`, or `undefined` when none is near. */
export function nearestName(typed: string, known: readonly string[]): string | undefined {
  const wanted = plain(typed);
  // A third of the letters wrong is another word.
  const mistakesMax = Math.max(1, Math.floor(wanted.length / 3));
  let best: { readonly name: string; readonly mistakes: number } | undefined;
  for (const name of known) {
    const mistakes = mistakesBetween(wanted, plain(name));
    if (mistakes <= mistakesMax && mistakes < (best?.mistakes ?? Number.POSITIVE_INFINITY)) {
      best = { name, mistakes };
    }
  }
  return best?.name;
}

/** `listen_address`, `listen-address` and `listenAddress` are one spelling. */
function plain(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, "");
}

/** Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours. */
function mistakesBetween(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? 0;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const substitution = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? at(i - 2, j - 2) + 1 : substitution;
      row.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, substitution, swap));
    }
  }
  return at(a.length, b.length);
}
