/**
 * Counts tests in the output of the tools that ran them.
 *
 * A tool that ended badly counts as a failure even if its output shows none: it may have crashed
 * before it could say so. A tool that ended well without any test is a failure too: a filter that
 * matches nothing would pass for ever.
 */

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** `tool` decides what is looked for; a `check` has no tests and counts as one itself. */
export type Tool = "bun" | "cargo" | "check";

export function tallyOf(tool: Tool, status: number, output: string): Tally {
  const counted = count(tool, status, output);
  const failed =
    status !== 0 || total(counted) === 0 ? Math.max(1, counted.failed) : counted.failed;
  return { ...counted, failed };
}

export function sum(tallies: readonly Tally[]): Tally {
  return tallies.reduce(
    (a, b) => ({
      passed: a.passed + b.passed,
      failed: a.failed + b.failed,
      skipped: a.skipped + b.skipped,
    }),
    { passed: 0, failed: 0, skipped: 0 },
  );
}

export function formatTally({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

function count(tool: Tool, status: number, output: string): Tally {
  switch (tool) {
    case "check":
      return { passed: status === 0 ? 1 : 0, failed: 0, skipped: 0 };
    case "bun":
      return {
        passed: sumOf(output, /^ *(\d+) pass$/gm),
        failed: sumOf(output, /^ *(\d+) fail$/gm) + sumOf(output, /^ *(\d+) errors?$/gm),
        skipped: sumOf(output, /^ *(\d+) (?:skip|todo)$/gm),
      };
    case "cargo":
      return {
        passed: sumOf(output, /^test result: .*?(\d+) passed;/gm),
        failed: sumOf(output, /^test result: .*?(\d+) failed;/gm),
        skipped: sumOf(output, /^test result: .*?(\d+) ignored;/gm),
      };
  }
}

function sumOf(output: string, pattern: RegExp): number {
  // Colours, if a tool insists on them, are not part of the words.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what is removed.
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  return [...plain.matchAll(pattern)].reduce((all, [, digits]) => all + Number(digits), 0);
}

function total({ passed, failed, skipped }: Tally): number {
  return passed + failed + skipped;
}
