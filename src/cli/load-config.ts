/**
 * File, environment and flags become one frozen, typed configuration.
 *
 * - **Flag > environment > file > default**, key by key; a list of a higher source replaces one of
 *   a lower source whole.
 * - **What is not known is an error** with the nearest known name; in the environment, which others
 *   write into as well, it is a warning, and only where the name is nearly one of ours.
 * - **A message names the source**: `relay.yaml: listen`, `ZTNA_LISTEN`, `--listen`.
 */
import type { z } from "zod";
import { OperatorError } from "../base/error.ts";
import { type RawConfig, readConfigFile } from "./config-file.ts";
import { describeIssues, type IssueSource } from "./config-issues.ts";
import { nearestName } from "./nearest.ts";
import { leafPaths, type Schema, schemaAtPath, unknownKeys } from "./schema-keys.ts";

/** What a flag of the command line sets. */
export interface ConfigFlag {
  /** As in the help text: `--listen <address>`. */
  readonly flag: string;
  /** The path of its key: `metrics.listen`. */
  readonly key: string;
  readonly help: string;
  /** May be given several times. */
  readonly repeats?: boolean;
}

export type FlagValue = string | boolean | readonly string[];

export interface LoadConfigOptions<S extends z.ZodType> {
  readonly schema: S;
  readonly flags: readonly ConfigFlag[];
  /** Flags that were given, by the path of their key. */
  readonly given: ReadonlyMap<string, FlagValue>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly file: string | undefined;
  /** Keys of the predecessor and what they are called here. */
  readonly renamedKeys: Readonly<Record<string, string>>;
}

export interface LoadedConfig<C> {
  readonly config: C;
  /** Path of a key → where its value came from. Keys that are absent have their default. */
  readonly origins: ReadonlyMap<string, string>;
  /** Lines for stderr. */
  readonly warnings: readonly string[];
}

export const ENVIRONMENT_PREFIX = "ZTNA_";

/** Names the file where no flag does. */
export const CONFIG_VARIABLE = "ZTNA_CONFIG";

/** Variables that Kubernetes and container links set for a service whose name begins with `ztna`. */
const SERVICE_LINK = /_(SERVICE_HOST|(SERVICE_)?PORT(_.*)?)$/;

/** @throws OperatorError `CONFIG_INVALID`, or `USAGE` when a flag is at fault. */
export function loadConfig<S extends z.ZodType>(
  options: LoadConfigOptions<S>,
): LoadedConfig<z.output<S>> {
  const origins = new Map<string, string>();
  const raw = options.file === undefined ? {} : fromFile(options, options.file, origins);
  const warnings = fromEnvironment(options, raw, origins);
  fromFlags(options, raw, origins);

  const parsed = options.schema.safeParse(raw);
  if (!parsed.success) {
    const { message, hint, code } = describeIssues(parsed.error.issues, raw, (path) =>
      sourceOf(path, origins, options),
    );
    throw new OperatorError(code, message, hint === undefined ? {} : { hint });
  }
  return { config: deepFreeze(parsed.data), origins, warnings };
}

/** Returns the variable that sets the key at `path`: `metrics.listen` → `ZTNA_METRICS_LISTEN`. */
export function environmentName(path: string): string {
  const words = path.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replaceAll(".", "_");
  return ENVIRONMENT_PREFIX + words.toUpperCase();
}

function fromFile(
  { schema, renamedKeys }: Pick<LoadConfigOptions<z.ZodType>, "schema" | "renamedKeys">,
  file: string,
  origins: Map<string, string>,
): RawConfig {
  const raw = readConfigFile(file);
  const [unknown] = unknownKeys(schema, raw);
  if (unknown !== undefined) {
    const path = [...unknown.path, unknown.key].join(".");
    const renamed = renamedKeys[path] ?? renamedKeys[unknown.key];
    const near = renamed ?? nearestName(unknown.key, unknown.known);
    const known = `Known here are ${unknown.known.join(", ")}.`;
    throw new OperatorError("CONFIG_INVALID", `${file}: ${path}: no such key`, {
      hint:
        near === undefined
          ? known
          : `${renamed ? "It is called" : "Did you mean"} ${near}${renamed ? "." : "?"}`,
    });
  }

  for (const path of leafPaths(schema)) {
    if (valueAt(raw, path) !== undefined) origins.set(path, `file ${file}`);
  }
  return raw;
}

function fromEnvironment(
  { schema, environment }: Pick<LoadConfigOptions<z.ZodType>, "schema" | "environment">,
  raw: RawConfig,
  origins: Map<string, string>,
): string[] {
  const pathOf = new Map(leafPaths(schema).map((path) => [environmentName(path), path]));
  const known = [...pathOf.keys(), CONFIG_VARIABLE];
  const warnings: string[] = [];
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith(ENVIRONMENT_PREFIX) || text === undefined) continue;

    const path = pathOf.get(name);
    if (path !== undefined) {
      setAt(raw, path, readText(schemaAtPath(schema, path), text));
      origins.set(path, `environment ${name}`);
    } else if (!known.includes(name) && !SERVICE_LINK.test(name)) {
      const near = nearestName(name.slice(ENVIRONMENT_PREFIX.length), known.map(withoutPrefix));
      if (near !== undefined) {
        warnings.push(`warning: ${name} sets nothing, did you mean ${ENVIRONMENT_PREFIX}${near}?`);
      }
    }
  }
  return warnings;
}

function withoutPrefix(name: string): string {
  return name.slice(ENVIRONMENT_PREFIX.length);
}

function fromFlags(
  { schema, flags, given }: LoadConfigOptions<z.ZodType>,
  raw: RawConfig,
  origins: Map<string, string>,
): void {
  for (const { key, flag } of flags) {
    const value = given.get(key);
    if (value === undefined) continue;

    const leaf = schemaAtPath(schema, key);
    setAt(raw, key, typeof value === "string" ? readText(leaf, value) : value);
    origins.set(key, `flag ${flagName(flag)}`);
  }
}

export function flagName(flag: string): string {
  return flag.split(/[ ,]/)[0] ?? flag;
}

/**
 * Returns the first reading of `text` that the schema takes: the text, a number, a truth value, a
 * list by commas, a YAML value. When none fits, one of the right type, so that the schema says why.
 */
function readText(schema: Schema | undefined, text: string): unknown {
  if (schema === undefined) return text;

  const readings: unknown[] = [text];
  if (/^-?\d+(\.\d+)?$/.test(text)) readings.push(Number(text));
  if (text === "true" || text === "false") readings.push(text === "true");
  readings.push(text === "" ? [] : text.split(",").map((item) => item.trim()));
  if (/^[[{]/.test(text)) readings.push(yamlOrText(text));
  const failures = readings.map((it) => ({ it, failure: failureOf(schema, it) }));
  const best =
    failures.find(({ failure }) => failure === "none") ??
    failures.find(({ failure }) => failure === "value");
  return best === undefined ? text : best.it;
}

function yamlOrText(text: string): unknown {
  try {
    return Bun.YAML.parse(text);
  } catch {
    return text;
  }
}

function failureOf(schema: Schema, value: unknown): "none" | "value" | "type" {
  const { error } = (schema as z.ZodType).safeParse(value);
  if (error === undefined) return "none";
  return error.issues[0]?.code === "invalid_type" ? "type" : "value";
}

function sourceOf(
  path: string,
  origins: ReadonlyMap<string, string>,
  { file, flags }: Pick<LoadConfigOptions<z.ZodType>, "file" | "flags">,
): IssueSource {
  const key = [...origins.keys()].find((it) => path === it || path.startsWith(`${it}.`));
  const origin = key === undefined ? undefined : origins.get(key);
  const name = origin?.slice(origin.indexOf(" ") + 1);
  if (origin !== undefined && name !== undefined && !origin.startsWith("file ")) {
    return { label: name, code: origin.startsWith("flag ") ? "USAGE" : "CONFIG_INVALID" };
  }

  const flag = flags.find((it) => it.key === path);
  const ways = [
    `${path} in the configuration file`,
    environmentName(path),
    ...(flag === undefined ? [] : [flagName(flag.flag)]),
  ];
  return {
    label: file === undefined ? path : `${file}: ${path}`,
    code: "CONFIG_INVALID",
    waysToSet: ways,
  };
}

function valueAt(raw: RawConfig, path: string): unknown {
  let value: unknown = raw;
  for (const key of path.split(".")) value = (value as RawConfig | undefined | null)?.[key];
  return value;
}

function setAt(raw: RawConfig, path: string, value: unknown): void {
  const keys = path.split(".");
  const last = keys.pop() ?? "";
  let place = raw;
  for (const key of keys) {
    const inner = place[key];
    const next = typeof inner === "object" && inner !== null ? (inner as RawConfig) : {};
    place[key] = next;
    place = next;
  }
  place[last] = value;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
