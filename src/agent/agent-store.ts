/**
 * What an agent remembers from one run to the next: virtual addresses and the services used last.
 *
 * A file of JSON, replaced as a whole and readable by its owner only. What cannot be read is
 * forgotten: nothing in it is worth an agent that does not start.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

const FILE = "agent-state.json";

/** Twice the services of an agent, with room; anything larger was not written by an agent. */
const FILE_BYTES_MAX = 2_097_152;

const stored = z.object({
  version: z.literal(1),
  /** "a.b.c.d/p" of the addresses below. */
  pool: z.string().optional(),
  /** Service → IPv4 address. */
  addresses: z.record(z.string(), z.string()),
  /** Services used last, oldest first. */
  warm: z.array(z.string()).max(64),
});

export type AgentMemory = Omit<z.output<typeof stored>, "version">;

const NOTHING: AgentMemory = { addresses: {}, warm: [] };

export class AgentStore {
  readonly #directory: string | undefined;
  readonly #onFailure: (detail: string) => void;
  #written = "";

  /** @param directory absent: nothing outlives the process. */
  constructor(directory: string | undefined, onFailure: (detail: string) => void) {
    this.#directory = directory;
    this.#onFailure = onFailure;
  }

  load(): AgentMemory {
    if (this.#directory === undefined) return NOTHING;
    try {
      const text = readFileSync(join(this.#directory, FILE), "utf8");
      if (text.length > FILE_BYTES_MAX) return this.#forget("it is too large");
      const parsed = stored.safeParse(JSON.parse(text));
      return parsed.success ? parsed.data : this.#forget("it has another form");
    } catch (error) {
      return isMissing(error) ? NOTHING : this.#forget(messageOf(error));
    }
  }

  /** Writes if anything is different. A disk that takes nothing costs memory, not service. */
  save(memory: AgentMemory): void {
    if (this.#directory === undefined) return;
    const text = `${JSON.stringify({ version: 1, ...memory }, null, 2)}\n`;
    if (text === this.#written) return;
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const path = join(this.#directory, FILE);
      writeFileSync(`${path}.part`, text, { mode: 0o600 });
      renameSync(`${path}.part`, path);
      this.#written = text;
    } catch (error) {
      this.#onFailure(`${join(this.#directory, FILE)}: ${messageOf(error)}`);
    }
  }

  #forget(why: string): AgentMemory {
    this.#onFailure(`${join(this.#directory ?? "", FILE)} is forgotten: ${why}`);
    return NOTHING;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
