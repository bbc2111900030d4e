import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fingerprint, isFresh, recordBuild } from "../../../scripts/lib/fingerprint.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fingerprint-"));
  writeFileSync(join(folder, "input.txt"), "one");
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("build fingerprint", () => {
  test("a changed time alone builds nothing", () => {
    const before = digest();

    utimesSync(join(folder, "input.txt"), 1, 1);

    expect(digest()).toBe(before);
  });

  test.each([
    { name: "another content", change: () => writeFileSync(join(folder, "input.txt"), "two") },
    { name: "one more file", change: () => writeFileSync(join(folder, "more.txt"), "") },
  ])("$name builds again", ({ change }) => {
    const before = digest();

    change();

    expect(digest()).not.toBe(before);
  });

  test("another version of a tool builds again", () => {
    expect(digest("compiler 2")).not.toBe(digest("compiler 1"));
  });

  test("a pattern that matches nothing is refused", () => {
    expect(() => fingerprint({ globs: [`${folder}/absent/*`], facts: [] })).toThrow("absent");
  });

  test("an output is fresh only with its record, its size and its digest", () => {
    const output = join(folder, "output");
    const record = join(folder, "records/output");
    expect(isFresh(output, record, "a")).toBe(false);

    writeFileSync(output, "built");
    recordBuild(output, record, "a");

    expect(isFresh(output, record, "a")).toBe(true);
    expect(isFresh(output, record, "b")).toBe(false);
    writeFileSync(output, "another");
    expect(isFresh(output, record, "a")).toBe(false);
    rmSync(output);
    expect(isFresh(output, record, "a")).toBe(false);
  });
});

function digest(...facts: string[]): string {
  return fingerprint({ globs: [`${folder}/*.txt`], facts });
}
