/** A logger that keeps what it is told. */
import type { LogFields } from "../../src/observability/log-events.ts";
import type { AuditFields, Logger } from "../../src/observability/logger.ts";

export interface Line {
  readonly level: string;
  readonly message: string;
  readonly fields: LogFields;
}

export class MemoryLogger implements Logger {
  readonly lines: Line[] = [];
  readonly audits: AuditFields[] = [];
  linesDropped = 0;
  readonly trace = this.#keep("trace");
  readonly debug = this.#keep("debug");
  readonly info = this.#keep("info");
  readonly warn = this.#keep("warn");
  readonly error = this.#keep("error");

  audit(fields: AuditFields): void {
    this.audits.push(fields);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  #keep(level: string) {
    return (message: string, fields: LogFields = {}) => {
      this.lines.push({ level, message, fields });
    };
  }
}
