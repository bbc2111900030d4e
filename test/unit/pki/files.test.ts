import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pairFiles, readPair, writePair } from "../../../src/pki/files.ts";

describe("certificate files", () => {
  test("are for their owner's eyes, in a directory that is too", () => {
    const files = pairFiles(join(directory, "pki"), "ca");

    writePair(files, PAIR, false);

    const modes = [join(directory, "pki"), files.certificate, files.key].map(modeOf);
    expect(modes).toEqual([0o700, 0o600, 0o600]);
    expect(readPair(files)).toEqual(PAIR);
  });

  test("an existing file stays, and nothing is written beside it", () => {
    const files = pairFiles(directory, "ca");
    writeFileSync(files.certificate, "precious");

    expect(() => writePair(files, PAIR, false)).toThrow(
      expect.objectContaining({ code: "FILE_EXISTS", message: `${files.certificate} exists` }),
    );
    expect(readdirSync(directory)).toEqual(["ca.crt"]);
  });

  test("force replaces both and tightens their mode", () => {
    const files = pairFiles(directory, "ca");
    writeFileSync(files.key, "old", { mode: 0o644 });

    writePair(files, PAIR, true);

    expect(readFileSync(files.key, "utf8")).toBe(PAIR.keyPem);
    expect(modeOf(files.key)).toBe(0o600);
    expect(readdirSync(directory).sort()).toEqual(["ca.crt", "ca.key"]);
  });

  test("a place that cannot be written is the operator's to change", () => {
    writeFileSync(join(directory, "file"), "");

    expect(() => writePair(pairFiles(join(directory, "file"), "ca"), PAIR, false)).toThrow(
      expect.objectContaining({ code: "FILE_UNWRITABLE" }),
    );
  });

  test("a file that is missing cannot be read", () => {
    expect(() => readPair(pairFiles(directory, "absent"))).toThrow(
      expect.objectContaining({ code: "FILE_UNREADABLE" }),
    );
  });
});

const PAIR = { certificatePem: "certificate", keyPem: "key" };

let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ztna-files-"));
});

afterEach(() => rmSync(directory, { recursive: true }));

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}
