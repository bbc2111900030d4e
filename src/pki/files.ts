/**
 * Writes certificates and keys: files 0600, directories that are made 0700.
 *
 * A file appears whole or not at all, and an existing one stays unless its replacement was asked
 * for: overwriting an authority's key cuts off everybody it certified.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { OperatorError } from "../base/error.ts";
import type { PemPair } from "./authority.ts";

export interface PairFiles {
  readonly certificate: string;
  readonly key: string;
}

export function pairFiles(directory: string, stem: string): PairFiles {
  return { certificate: join(directory, `${stem}.crt`), key: join(directory, `${stem}.key`) };
}

/** @throws OperatorError before anything is written when a file exists and `force` is not given. */
export function requireFree(files: PairFiles, force: boolean): void {
  const taken = [files.key, files.certificate].find((path) => existsSync(path));
  if (taken === undefined || force) return;

  throw new OperatorError("FILE_EXISTS", `${taken} exists`, {
    hint: "Choose another --out, or pass --force to replace it for good.",
  });
}

export function writePair(files: PairFiles, pair: PemPair, force: boolean): void {
  requireFree(files, force);
  writePrivately(files.key, pair.keyPem, force);
  try {
    writePrivately(files.certificate, pair.certificatePem, force);
  } catch (error) {
    // A key without its certificate is of no use and would block the next attempt.
    if (!force) rmSync(files.key, { force: true });
    throw error;
  }
}

export function readPair(files: PairFiles): PemPair {
  return { certificatePem: readText(files.certificate), keyPem: readText(files.key) };
}

export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new OperatorError("FILE_UNREADABLE", `cannot read ${path}`, { cause });
  }
}

function writePrivately(path: string, text: string, force: boolean): void {
  const temporary = join(dirname(path), `.${randomBytes(8).toString("hex")}.tmp`);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeWhole(temporary, text);
    if (force) renameSync(temporary, path);
    // A link refuses an existing name, also one that appeared since `requireFree` looked.
    else linkSync(temporary, path);
  } catch (cause) {
    throw new OperatorError("FILE_UNWRITABLE", `cannot write ${path}`, {
      cause,
      hint: "Choose a directory that you own with --out.",
    });
  } finally {
    if (existsSync(temporary)) rmSync(temporary);
  }
}

function writeWhole(path: string, text: string): void {
  const descriptor = openSync(path, "wx", 0o600);
  try {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
