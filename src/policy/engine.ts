/**
 * Decides what an identity may do with a service: use it as an agent, provide it as a connector.
 *
 * - **The certificate must grant it.** No rule adds to what a certificate says.
 * - **Deny wins**: one matching deny rule decides, wherever it stands in the table.
 * - **Without a deny the table allows** if an allow rule matches, or if none does and its default is
 *   `allow`; then the certificate alone decides.
 *
 * The decision names the rule that made it, for the audit line. A peer is told only yes or no.
 */
import { includesService } from "./grants.ts";
import type { ProvenPeer } from "./identity.ts";
import { type Rule, ruleMatches } from "./rule.ts";

export interface PolicyTable {
  readonly rules: readonly Rule[];
  /** What holds where no rule matches. */
  readonly default: "allow" | "deny";
}

export interface Decision {
  readonly effect: "allow" | "deny";
  /** The id of the rule, or one of the two below. */
  readonly rule: string;
}

/** The certificate does not grant the service. */
export const RULE_CERTIFICATE = "certificate";
/** No rule matched. */
export const RULE_DEFAULT = "default";

/** Certificate grants decide alone. */
export const EMPTY_TABLE: PolicyTable = { rules: [], default: "allow" };

export class PolicyEngine {
  readonly #denying: readonly Rule[];
  readonly #allowing: readonly Rule[];
  readonly #default: Decision;

  constructor(table: PolicyTable) {
    this.#denying = table.rules.filter(({ effect }) => effect === "deny");
    this.#allowing = table.rules.filter(({ effect }) => effect === "allow");
    this.#default = { effect: table.default, rule: RULE_DEFAULT };
  }

  decide(peer: Pick<ProvenPeer, "identity" | "grants">, service: string): Decision {
    if (!isGranted(peer, service)) return { effect: "deny", rule: RULE_CERTIFICATE };

    const { uri } = peer.identity;
    const match = (rule: Rule) => ruleMatches(rule, uri, service);
    const decisive = this.#denying.find(match) ?? this.#allowing.find(match);
    return decisive === undefined ? this.#default : { effect: decisive.effect, rule: decisive.id };
  }
}

/** Returns whether the certificate grants the service to the role that it proves. */
export function isGranted(
  { identity, grants }: Pick<ProvenPeer, "identity" | "grants">,
  service: string,
): boolean {
  switch (identity.role) {
    case "agent":
      return includesService(grants.use, service);
    case "connector":
      return includesService(grants.provide, service);
    case "relay":
    case "admin":
      return false;
  }
}
