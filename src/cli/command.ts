/** What a command is: plain data for parsing, help and completion, and a function that runs it. */
import type { Writable } from "node:stream";
import type { LogOutput } from "../observability/log-output.ts";
import type { OpenEndpoint } from "../transport/endpoint.ts";
import type { ExitCode } from "./exit.ts";
import type { ConfigFlag, FlagValue } from "./load-config.ts";

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** As commander writes them: `<name>` is required, `[file]` is not. */
  readonly arguments?: readonly string[];
  readonly flags?: readonly Flag[];
  /** Flags that set keys of the role's configuration. */
  readonly configFlags?: readonly ConfigFlag[];
  /** Flags of the predecessor and what to write here. */
  readonly renamedFlags?: Readonly<Record<string, string>>;
  readonly commands?: readonly Command[];
  /** Printed below the help. */
  readonly examples?: readonly string[];
  readonly run?: (invocation: Invocation) => Promise<ExitCode>;
}

export interface Flag {
  /** `--out <dir>`, or `--force` for a truth value. */
  readonly flag: string;
  readonly help: string;
  readonly repeats?: boolean;
}

export interface Invocation {
  readonly arguments: readonly string[];
  /** Flags that were given, by name: `out`, `all-services`. */
  readonly flags: ReadonlyMap<string, FlagValue>;
  readonly console: Console;
}

/** The process as a command sees it. */
export interface Console {
  /** For data. */
  readonly stdout: Writable;
  /** For people. */
  readonly stderr: Writable;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where a role logs to: standard output, past the stream for data. */
  readonly openLogs: () => LogOutput;
  /** Loads the data plane. Absent in a build that has none. */
  readonly loadDataPlane?: () => Promise<OpenEndpoint>;
}

/** Returns `out` of `-o, --out <dir>`. */
export function nameOfFlag(flag: string): string {
  return /--([a-z0-9-]+)/.exec(flag)?.[1] ?? flag;
}

export function takesValue(flag: string): boolean {
  return flag.includes("<");
}

export function textFlag({ flags }: Invocation, name: string): string | undefined {
  const value = flags.get(name);
  return typeof value === "string" ? value : undefined;
}

export function listFlag({ flags }: Invocation, name: string): readonly string[] {
  const value = flags.get(name);
  return Array.isArray(value) ? value : [];
}

export function hasFlag({ flags }: Invocation, name: string): boolean {
  return flags.get(name) === true;
}
