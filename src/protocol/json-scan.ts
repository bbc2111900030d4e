/**
 * What `JSON.parse` does not refuse and the control protocol does: nesting beyond a depth, and an
 * object that has a key twice (the reader's choice among them is how two parsers disagree).
 *
 * The scan walks the text once and judges nothing else: of text that is not JSON it may say
 * anything, because `JSON.parse` refuses it afterwards. It runs first, so that the parser never
 * recurses deeper than allowed.
 */
import { err, ok, type Result } from "../base/result.ts";
import type { DecodeError } from "./errors.ts";
import { plainText } from "./plain-text.ts";

export function scanJson(text: string, depthMax: number): Result<undefined, DecodeError> {
  const open: Level[] = [];
  for (let at = 0; at < text.length; at++) {
    const level = open.at(-1);
    switch (text.charCodeAt(at)) {
      case QUOTE: {
        const end = endOfString(text, at);
        if (level?.keyNext === true && !takeKey(level, text.slice(at, end + 1))) {
          const detail = plainText(text.slice(at, at + DETAIL_CHARS_MAX));
          return err({ reason: "duplicate-key", detail });
        }
        at = end;
        break;
      }
      case OPEN_BRACE:
      case OPEN_BRACKET:
        if (open.length === depthMax) {
          return err({ reason: "too-deep", detail: `deeper than ${depthMax}` });
        }
        open.push({ keys: new Set(), keyNext: text.charCodeAt(at) === OPEN_BRACE });
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        open.pop();
        break;
      case COMMA:
        // An array has no keys, and its level never had one taken.
        if (level !== undefined) level.keyNext = level.keys.size > 0;
        break;
      default:
        break;
    }
  }
  return ok(undefined);
}

interface Level {
  readonly keys: Set<string>;
  /** Whether the next string is a key. */
  keyNext: boolean;
}

/** Returns whether the key was not there yet. */
function takeKey(level: Level, quoted: string): boolean {
  const key = unquote(quoted);
  if (level.keys.has(key)) return false;

  level.keys.add(key);
  level.keyNext = false;
  return true;
}

/** Two spellings of a key are one key: `"a"` and `"\u0061"`. */
function unquote(quoted: string): string {
  if (!quoted.includes("\\")) return quoted.slice(1, -1);
  try {
    return String(JSON.parse(quoted));
  } catch {
    // Not a string of JSON: whatever is returned, the parser refuses the whole text.
    return quoted;
  }
}

/** Returns where the closing quote is, or the end of the text. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) return at;
    if (char === BACKSLASH) at++;
  }
  return text.length;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const DETAIL_CHARS_MAX = 80;
