/**
 * One logger a process: a JSON object a line, or readable lines on a terminal.
 *
 * - **Logging never blocks and never grows.** A reader that stops reading costs log lines, which
 *   are counted and reported, and nothing else.
 * - **A message belongs to one level**, the one of `log-events.ts`; the compiler checks it.
 * - **An audit line is never filtered by level**, and is among the last to be dropped.
 *
 * Worker transports of pino do not survive bundling into one file, so formatting happens here.
 */
import { type Logger as Pino, pino } from "pino";
import { prettyFactory } from "pino-pretty";
import type { Level, LogFields, LogMessage, MessageAt } from "./log-events.ts";
import type { LineKind, LogOutput } from "./log-output.ts";

export interface Logger {
  trace(message: MessageAt<"trace">, fields?: LogFields): void;
  debug(message: MessageAt<"debug">, fields?: LogFields): void;
  info(message: MessageAt<"info">, fields?: LogFields): void;
  warn(message: MessageAt<"warn">, fields?: LogFields): void;
  error(message: MessageAt<"error">, fields?: LogFields): void;
  /** Records who asked for which service, what was decided and by which rule, at any level. */
  audit(fields: AuditFields): void;
  /** Lines that never left the process. */
  readonly linesDropped: number;
  /** Resolves when everything said so far has left the process, or soon if it cannot. */
  flush(): Promise<void>;
}

export interface AuditFields extends LogFields {
  readonly identity: string;
  readonly service: string;
  readonly decision: "allow" | "deny";
  readonly rule: string;
}

export interface LoggerOptions {
  readonly level: Level | "silent";
  /** Goes into each line. */
  readonly role: string;
  readonly output: LogOutput;
  /** Readable lines with colours for people. */
  readonly pretty: boolean;
}

export function createLogger({ level, role, output, pretty }: LoggerOptions): Logger {
  const format = pretty ? prettyLines() : (line: string) => line;
  const open = (kind: LineKind, least: Level | "silent", base: object): Pino =>
    pino(
      {
        level: least,
        base,
        timestamp: () => `,"time":"${new Date().toISOString()}"`,
        formatters: { level: (label) => ({ level: label }) },
      },
      { write: (line: string) => output.write(format(line), kind) },
    );
  const main = open("ordinary", level, { role });
  const audit = open("audit", "trace", { role, audit: true });
  output.onResumed = (count) => main.warn({ count }, "log lines dropped" satisfies LogMessage);

  return {
    trace: (message, fields = {}) => main.trace(fields, message),
    debug: (message, fields = {}) => main.debug(fields, message),
    info: (message, fields = {}) => main.info(fields, message),
    warn: (message, fields = {}) => main.warn(fields, message),
    error: (message, fields = {}) => main.error(fields, message),
    audit: (fields) => audit.info(fields, "access decided" satisfies LogMessage),
    get linesDropped() {
      return output.dropped;
    },
    flush: () => output.flush(),
  };
}

function prettyLines(): (line: string) => string {
  const format = prettyFactory({ colorize: true, singleLine: true, ignore: "role,pid,hostname" });
  return (line) => format(line) ?? line;
}
