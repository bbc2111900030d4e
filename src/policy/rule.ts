/**
 * One row of the allow/deny table.
 *
 * Patterns match the whole text; `*` in one stands for any number of characters, also none. An
 * identity is matched by its URI, so that `ztna://corp.example/agent/*` is every agent of a trust
 * domain.
 */
export interface Rule {
  /** Named by audit lines; unique in its table. */
  readonly id: string;
  readonly effect: "allow" | "deny";
  /** Any of these. */
  readonly identities: readonly string[];
  /** Any of these. */
  readonly services: readonly string[];
}

export function ruleMatches(rule: Rule, identity: string, service: string): boolean {
  return (
    rule.identities.some((pattern) => patternMatches(pattern, identity)) &&
    rule.services.some((pattern) => patternMatches(pattern, service))
  );
}

/** Runs in the product of both lengths at worst, which a regular expression does not promise. */
export function patternMatches(pattern: string, text: string): boolean {
  let at = 0;
  let from = 0;
  let star: { readonly at: number; from: number } | undefined;
  while (from < text.length) {
    if (pattern[at] === "*") {
      star = { at, from };
      at++;
    } else if (pattern[at] === text[from]) {
      at++;
      from++;
    } else if (star !== undefined) {
      star.from++;
      at = star.at + 1;
      from = star.from;
    } else {
      return false;
    }
  }
  return /^\**$/.test(pattern.slice(at));
}
