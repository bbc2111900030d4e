/** The process as a command sees it, kept in memory. */
import { Writable } from "node:stream";
import type { Console } from "../../src/cli/command.ts";
import type { LogOutput } from "../../src/observability/log-output.ts";

export class MemoryConsole implements Console {
  readonly stdout = new Collector();
  readonly stderr = new Collector();
  /** What a role logged. */
  readonly logs = new Collector();
  readonly environment: Readonly<Record<string, string | undefined>>;

  constructor(environment: Readonly<Record<string, string | undefined>> = {}) {
    this.environment = environment;
  }

  openLogs = (): LogOutput => ({
    write: (line) => void this.logs.write(line),
    dropped: 0,
    onResumed: () => {},
    flush: async () => {},
  });
}

export class Collector extends Writable {
  text = "";
  #waiting: (() => void)[] = [];

  override _write(chunk: unknown, _encoding: string, done: () => void): void {
    this.text += String(chunk);
    done();
    for (const look of this.#waiting.splice(0)) look();
  }

  /** Resolves once `condition` holds; looks after each write. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (condition()) resolve();
        else this.#waiting.push(look);
      };
      look();
    });
  }
}
