/**
 * Reads a configuration file: YAML, of which JSON is a subset.
 *
 * The parser reports no position and takes the last of two equal keys in silence, so both are
 * looked for here: a mistake in a policy table must not choose between two readings.
 */
import { readFileSync } from "node:fs";
import { OperatorError } from "../base/error.ts";

export type RawConfig = Record<string, unknown>;

/** More than any configuration has, and little enough to read at once. */
export const CONFIG_BYTES_MAX = 4_194_304;

/** @throws OperatorError when the file cannot be read or is no mapping. */
export function readConfigFile(path: string): RawConfig {
  const text = readText(path);
  if (Buffer.byteLength(text) > CONFIG_BYTES_MAX) {
    throw new OperatorError("CONFIG_INVALID", `${path} is larger than ${CONFIG_BYTES_MAX} octets`);
  }

  const value = parse(path, text);
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw new OperatorError("CONFIG_INVALID", `${path} is no mapping of keys to values`, {
      hint: "Begin with one of the examples under deploy/config.",
    });
  }
  refuseRepeatedKeys(path, text);
  return value as RawConfig;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new OperatorError("FILE_UNREADABLE", `cannot read the configuration ${path}`, {
      cause,
      hint: "Pass --config with a file that exists and that this user may read.",
    });
  }
}

function parse(path: string, text: string): unknown {
  try {
    return Bun.YAML.parse(text);
  } catch (cause) {
    throw new OperatorError("CONFIG_INVALID", `${path} is not YAML near line ${badLine(text)}`, {
      cause,
    });
  }
}

/** Returns the line behind the longest beginning that can be read. */
function badLine(text: string): number {
  const lines = text.split("\n");
  for (let count = lines.length - 1; count > 0; count--) {
    try {
      Bun.YAML.parse(lines.slice(0, count).join("\n"));
      return count + 1;
    } catch {
      // A shorter beginning may still be whole.
    }
  }
  return 1;
}

/** Only the outermost block mapping: there its lines begin at the margin and cannot be data. */
function refuseRepeatedKeys(path: string, text: string): void {
  const seen = new Map<string, number>();
  for (const [index, line] of text.split("\n").entries()) {
    const key = /^([A-Za-z_][\w-]*)\s*:(\s|$)/.exec(line)?.[1];
    if (key === undefined) continue;

    const first = seen.get(key);
    if (first !== undefined) {
      throw new OperatorError(
        "CONFIG_INVALID",
        `${path}: ${key} stands on line ${first} and on line ${index + 1}`,
        { hint: "Keep one of them." },
      );
    }
    seen.set(key, index + 1);
  }
}
