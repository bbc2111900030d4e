/** `--print-config`: each value with where it came from, as YAML that can be read back. */

export const REDACTED = "(redacted)";

/** Returns whether a key of this name holds a secret itself and not the path of a file. */
export function isSecretKey(key: string): boolean {
  return /(password|passphrase|secret|token)$/i.test(key);
}

export function printConfig(config: object, origins: ReadonlyMap<string, string>): string {
  const lines: string[] = [];
  const origin = (path: string) =>
    origins.get([...origins.keys()].find((it) => path === it || path.startsWith(`${it}.`)) ?? "") ??
    "default";
  write(config, "", "", (indent, key, value, path) => {
    const text = `${indent}${key}${value}`;
    lines.push(value === "" ? text : `${text.padEnd(COMMENT_COLUMN)} # ${origin(path)}`);
  });
  return `${lines.join("\n")}\n`;
}

const COMMENT_COLUMN = 48;

type Emit = (indent: string, key: string, value: string, path: string) => void;

function write(value: object, path: string, indent: string, emit: Emit): void {
  for (const [key, inner] of Object.entries(value)) {
    if (inner === undefined) continue;
    const innerPath = path === "" ? key : `${path}.${key}`;
    if (isNested(inner)) {
      emit(indent, `${key}:`, "", innerPath);
      write(inner, innerPath, `${indent}  `, emit);
    } else {
      emit(indent, `${key}: `, scalar(key, inner), innerPath);
    }
  }
}

/** Objects are spread over lines; lists and empty objects are written in one. */
function isNested(value: unknown): value is object {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Map) &&
    Object.keys(value).length > 0
  );
}

function scalar(key: string, value: unknown): string {
  if (isSecretKey(key)) return JSON.stringify(REDACTED);
  return JSON.stringify(value, redact) ?? "null";
}

function redact(key: string, value: unknown): unknown {
  if (isSecretKey(key)) return REDACTED;
  if (typeof value === "string" && value.includes("PRIVATE KEY-----")) return REDACTED;
  if (value instanceof Map) return Object.fromEntries(value);
  return value instanceof Set ? [...value] : value;
}
