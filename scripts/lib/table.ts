/** Lays out rows for people. */

/** Columns as wide as their widest cell; numbers to the right. The first row is the heading. */
export function table(rows: readonly (readonly (string | number)[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => String(row[column] ?? "").length)),
  );
  const line = (row: readonly (string | number)[]) =>
    widths
      .map((width, column) => cell(row[column] ?? "", width))
      .join("  ")
      .trimEnd();
  const [heading, ...body] = rows.map(line);
  return [heading ?? "", widths.map((width) => "-".repeat(width)).join("  "), ...body];
}

function cell(value: string | number, width: number): string {
  return typeof value === "number" ? String(value).padStart(width) : value.padEnd(width);
}
