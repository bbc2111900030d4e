/** Puts what a schema objects to into words for an operator: where, what is wanted, what is there. */
import type { z } from "zod";
import { isSecretKey, REDACTED } from "./print-config.ts";

export interface IssueSource {
  /** `relay.yaml: listen`, `ZTNA_LISTEN` or `--listen`. */
  readonly label: string;
  readonly code: "CONFIG_INVALID" | "USAGE";
  /** How to set the key where nothing did. */
  readonly waysToSet?: readonly string[];
}

export interface DescribedIssues extends Pick<IssueSource, "code"> {
  readonly message: string;
  readonly hint: string | undefined;
}

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Further issues are left for the next attempt: one mistake often causes many. */
const ISSUES_SHOWN_MAX = 5;
const VALUE_CHARS_MAX = 80;

export function describeIssues(
  issues: readonly Issue[],
  raw: unknown,
  sourceOf: (path: string) => IssueSource,
): DescribedIssues {
  const described = issues.slice(0, ISSUES_SHOWN_MAX).map((outer) => {
    const { issue, path } = innermost(outer);
    return { ...sourceOf(path.map(String).join(".")), ...describe(issue, path, raw) };
  });
  const [first] = described;
  const ways = first?.missing === true ? first.waysToSet : undefined;
  return {
    code: first?.code ?? "CONFIG_INVALID",
    message: described.map(({ label, text }) => `${label}: ${text}`).join("\n  and "),
    hint: ways === undefined ? undefined : `Set ${listOf(ways)}.`,
  };
}

function describe(issue: Issue, path: Path, raw: unknown): { text: string; missing: boolean } {
  const value = at(raw, path);
  if (value === undefined && issue.code === "invalid_type") {
    return { text: "is missing", missing: true };
  }
  const wanted = issue.message.replace(/^Invalid input: /, "").replace(/, received .*$/, "");
  const lower = wanted.charAt(0).toLowerCase() + wanted.slice(1);
  const text = value === undefined ? lower : `${lower}, is ${shown(value, path)}`;
  return { text, missing: false };
}

/** Of a union, the alternative that got furthest says what was meant. */
function innermost(issue: Issue, prefix: Path = []): { issue: Issue; path: Path } {
  const path = [...prefix, ...issue.path];
  if (issue.code !== "invalid_union") return { issue, path };

  const inner = issue.errors
    .flatMap((branch) => branch.slice(0, 1))
    .map((it) => innermost(it, path))
    .sort((a, b) => b.path.length - a.path.length)[0];
  return inner === undefined || inner.path.length === path.length ? { issue, path } : inner;
}

function shown(value: unknown, path: Path): string {
  if (path.some((key) => isSecretKey(String(key)))) return REDACTED;
  const text = JSON.stringify(value);
  return text.length > VALUE_CHARS_MAX ? `${text.slice(0, VALUE_CHARS_MAX)}…` : text;
}

function at(raw: unknown, path: Path): unknown {
  let value = raw;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined | null)?.[key];
  return value;
}

function listOf(items: readonly string[]): string {
  return items.length < 2 ? items.join() : `${items.slice(0, -1).join(", ")} or ${items.at(-1)}`;
}
