/** Loads the configuration of a role with its schema, which is imported when it is asked for. */
import type { z } from "zod";
import type { AgentConfig } from "../agent/agent-config.ts";
import { OperatorError } from "../base/error.ts";
import type { ConnectorConfig } from "../connector/connector-config.ts";
import type { RelayConfig } from "../relay/relay-config.ts";
import { nameOfFlag } from "./command.ts";
import { CONFIG_VARIABLE, type FlagValue, type LoadedConfig, loadConfig } from "./load-config.ts";
import { nearestName } from "./nearest.ts";
import { ROLE_FLAGS, type RoleName } from "./role-flags.ts";

/** Returns the schema of a role's configuration. */
export function schemaOf(role: RoleName): Promise<z.ZodType> {
  return SCHEMAS[role]();
}

export const ROLE_NAMES: readonly RoleName[] = ["relay", "connector", "agent"];

export interface RoleConfigs {
  readonly relay: RelayConfig;
  readonly connector: ConnectorConfig;
  readonly agent: AgentConfig;
}

/** What the configurations of all roles have in common. */
export interface CommonConfig {
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
  readonly spiffe: Readonly<Record<string, string>>;
  readonly identities: Readonly<Record<string, string>>;
  readonly metrics: { readonly listen: string; readonly allowedHosts: readonly string[] };
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error";
}

export interface RoleConfigSources {
  readonly file: string | undefined;
  /** Flags that were given, by name without dashes. */
  readonly flags: ReadonlyMap<string, FlagValue>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** @throws OperatorError when it is wrong anywhere. */
export async function loadRoleConfig<R extends RoleName>(
  role: R,
  sources: RoleConfigSources,
): Promise<LoadedConfig<RoleConfigs[R]>> {
  const schema = await schemaOf(role);
  const { flags, renamedKeys } = ROLE_FLAGS[role];
  const given = flags.flatMap(({ flag, key }): [string, FlagValue][] => {
    const value = sources.flags.get(nameOfFlag(flag));
    return value === undefined ? [] : [[key, value]];
  });
  return loadConfig({
    schema,
    flags,
    given: new Map(given),
    environment: sources.environment,
    file: sources.file ?? sources.environment[CONFIG_VARIABLE],
    renamedKeys,
  }) as LoadedConfig<RoleConfigs[R]>;
}

/** @throws OperatorError with the nearest role. */
export function requireRole(text: string): RoleName {
  const role = ROLE_NAMES.find((it) => it === text);
  if (role !== undefined) return role;

  const near = nearestName(text, ROLE_NAMES);
  throw new OperatorError("USAGE", `"${text}" is no role`, {
    hint: near === undefined ? `Choose one of ${ROLE_NAMES.join(", ")}.` : `Did you mean ${near}?`,
  });
}

const SCHEMAS: Readonly<Record<RoleName, () => Promise<z.ZodType>>> = {
  relay: async () => (await import("../relay/relay-config.ts")).relayConfigSchema,
  connector: async () => (await import("../connector/connector-config.ts")).connectorConfigSchema,
  agent: async () => (await import("../agent/agent-config.ts")).agentConfigSchema,
};
