/** Figures and tables for people. Scripts get JSON. */

/** Returns lines with columns side by side, the last one ragged. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

/** Returns `1.5 MiB`: three digits say enough. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // What would be shown as 1024 of a unit is 1 of the next.
  while (value >= 1023.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 9.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${BYTE_UNITS[unit]}`;
}

export function formatRtt(microseconds: number): string {
  const milliseconds = microseconds / 1000;
  if (milliseconds < 9.995) return `${milliseconds.toFixed(2)} ms`;
  return `${milliseconds.toFixed(milliseconds < 99.95 ? 1 : 0)} ms`;
}

/** Returns the two largest units: `3 d 4 h`, `12 min 5 s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.floor(seconds);
  const parts = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first === -1) return "0 s";
  return parts
    .slice(first, first + 2)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

export function formatPath(path: { readonly kind: string; readonly address: string }): string {
  return `${path.kind.toUpperCase()} ${path.address}`;
}

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
