/**
 * Decides whether a build output is still what its inputs would give.
 *
 * The contents of every input decide, never their times: a checkout or a copied folder changes those.
 * What is recorded is written after the output, so an interrupted build is done again.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { Glob } from "bun";

export interface Inputs {
  /** Patterns of the files that the output depends on. One that matches nothing is an error. */
  readonly globs: readonly string[];
  /** What else it depends on: versions of tools, flags. */
  readonly facts: readonly string[];
}

/** Returns a digest over names and contents of all inputs. */
export function fingerprint(inputs: Inputs): string {
  const hash = createHash("sha256");
  for (const fact of inputs.facts) hash.update(`fact ${fact.length} ${fact}\n`);
  for (const path of inputs.globs.flatMap(matches)) {
    const content = readFileSync(path);
    hash.update(`file ${path} ${content.length}\n`).update(content);
  }
  return hash.digest("hex");
}

export function isFresh(output: string, record: string, digest: string): boolean {
  return readOrEmpty(record) === recordOf(output, digest) && sizeOf(output) > 0;
}

export function recordBuild(output: string, record: string, digest: string): void {
  mkdirSync(dirname(record), { recursive: true });
  writeFileSync(record, recordOf(output, digest));
}

/** The size stands for the output: somebody else's file in its place is noticed. */
function recordOf(output: string, digest: string): string {
  return `${digest} ${sizeOf(output)}\n`;
}

function matches(pattern: string): string[] {
  const paths = [...new Glob(pattern).scanSync({ dot: true, onlyFiles: true })].sort();
  if (paths.length === 0) throw new Error(`bug: no file matches the build input ${pattern}`);
  return paths;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
