/**
 * What outlives the relay's process: the key of its tokens and resets, its epochs, and what was
 * revoked at it.
 *
 * Without a directory everything is kept in memory: good for a trial, while a restart then forgets
 * revocations and leaves peers to find out by silence.
 */
import { Database } from "bun:sqlite";
import { randomBytes } from "node:crypto";
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { OperatorError } from "../base/error.ts";
import type { Revocation } from "./relay-values.ts";

export const STORE_FILE = "relay.sqlite";
/** Epochs that are remembered, for whoever reads the store after an incident. */
const EPOCHS_KEPT = 100;

export class RelayStore {
  readonly #database: Database;

  /** @throws OperatorError when the directory or the file in it cannot be used. */
  constructor(directory: string | undefined) {
    this.#database = open(directory);
  }

  /** Returns the 32 octets that this relay always had. */
  resetKey(): Uint8Array {
    const row = this.#database
      .query<{ value: Uint8Array }, []>("SELECT value FROM secrets WHERE name = 'reset-key'")
      .get();
    if (row !== null && row.value.length === 32) return row.value;

    const key = randomBytes(32);
    this.#database.run("INSERT OR REPLACE INTO secrets (name, value) VALUES ('reset-key', ?)", [
      key,
    ]);
    return key;
  }

  /** Notes the start of an epoch. */
  beginEpoch(epoch: string, startedAt: Date): void {
    this.#database.run("INSERT INTO epochs (epoch, started_at) VALUES (?, ?)", [
      epoch,
      startedAt.toISOString(),
    ]);
    this.#database.run("DELETE FROM epochs WHERE id <= (SELECT max(id) FROM epochs) - ?", [
      EPOCHS_KEPT,
    ]);
  }

  revocations(): readonly Revocation[] {
    return this.#database
      .query<Row, []>("SELECT sequence, spki, issuer, serial FROM revocations ORDER BY sequence")
      .all()
      .map(({ sequence, spki, issuer, serial }) =>
        spki === null
          ? { sequence, issuer: issuer ?? "", serial: serial ?? "" }
          : { sequence, spki },
      );
  }

  /** @throws when it cannot be written: a full disk. */
  addRevocation({ sequence, spki, issuer, serial }: Revocation): void {
    this.#database.run(
      "INSERT OR IGNORE INTO revocations (sequence, spki, issuer, serial) VALUES (?, ?, ?, ?)",
      [sequence, spki ?? null, issuer ?? null, serial ?? null],
    );
  }

  close(): void {
    this.#database.close();
  }
}

interface Row {
  readonly sequence: number;
  readonly spki: string | null;
  readonly issuer: string | null;
  readonly serial: string | null;
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS epochs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, started_at TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS revocations (
    sequence INTEGER PRIMARY KEY, spki TEXT, issuer TEXT, serial TEXT
  );
`;

function open(directory: string | undefined): Database {
  const path = directory === undefined ? ":memory:" : join(directory, STORE_FILE);
  try {
    if (directory !== undefined) {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      // Created here, so that it never has another mode than its last one.
      closeSync(openSync(path, "a", 0o600));
      chmodSync(path, 0o600);
    }
    const database = new Database(path);
    database.run("PRAGMA busy_timeout = 2000");
    database.run(SCHEMA);
    return database;
  } catch (cause) {
    throw new OperatorError("FILE_UNWRITABLE", `cannot keep the relay's data in ${path}`, {
      cause,
      hint: "Set dataDir to a directory that this user may write, or move a damaged file away.",
    });
  }
}
