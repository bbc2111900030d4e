import { describe, expect, test } from "bun:test";
import { scanJson } from "../../../src/protocol/json-scan.ts";

describe("json scan", () => {
  test.each([
    { name: "a key twice", text: '{"a":1,"a":2}', reason: "duplicate-key" },
    { name: "a key in two spellings", text: '{"a":1,"\\u0061":2}', reason: "duplicate-key" },
    { name: "a key twice further inside", text: '[{"b":{"a":1,"a":1}}]', reason: "duplicate-key" },
    {
      name: "a key again after a nested object",
      text: '{"a":{"b":1},"a":2}',
      reason: "duplicate-key",
    },
    {
      name: "a key again after a nested list",
      text: '{"a":[{"b":1},{}],"a":2}',
      reason: "duplicate-key",
    },
    {
      name: "a key that escapes a quote, twice",
      text: '{"\\"":1,"\\"":2}',
      reason: "duplicate-key",
    },
    { name: "an object one too deep", text: '{"a":{"b":{}}}', reason: "too-deep" },
    { name: "a list one too deep", text: "[[[]]]", reason: "too-deep" },
  ])("refuses $name", ({ text, reason }) => {
    const depthMax = reason === "too-deep" ? 2 : 4;

    expect(scanJson(text, depthMax)).toMatchObject({ ok: false, error: { reason } });
  });

  test.each([
    { name: "the same key in two objects", text: '{"a":{"x":1},"b":{"x":1}}' },
    { name: "a value that equals a key", text: '{"a":"a","b":"a"}' },
    { name: "equal strings in a list", text: '{"a":["x","x",["x","x"]]}' },
    { name: "brackets inside strings", text: '{"a":"[[[[{{{{","b":"}]\\"]"}' },
    { name: "a backslash before a closing quote", text: '{"a":"\\\\","b":"\\\\"}' },
    { name: "the greatest depth", text: '{"a":[[[]]]}' },
  ])("takes $name", ({ text }) => {
    expect(scanJson(text, 4)).toEqual({ ok: true, value: undefined });
  });
});
