/**
 * Runs the long commands of the scripts: says what is done and for how long, keeps their output for
 * the case that they fail, and leaves none behind when the script is interrupted.
 */
import { writeSync } from "node:fs";

/** A line at least this often, so that nobody takes a long step for a dead one. */
const PROGRESS_INTERVAL_MS = 8000;
const TAIL_LINES = 60;

export interface StepOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Shows the output as it comes. */
  readonly live?: boolean;
}

export interface StepResult {
  readonly status: number;
  /** Both streams in the order they came. */
  readonly output: string;
  readonly seconds: number;
}

/** The command of a step ended with a failure. Its output was shown. */
export class StepFailure extends Error {
  override readonly name = "StepFailure";
}

/** Runs `command` and throws {@link StepFailure} unless it succeeds. */
export async function step(
  what: string,
  command: readonly string[],
  options: StepOptions = {},
): Promise<StepResult> {
  const result = await attempt(what, command, options);
  if (result.status === 0) {
    say(`  ${what}: done in ${result.seconds} s`);
    return result;
  }

  if (options.live !== true) say(result.output.split("\n").slice(-TAIL_LINES).join("\n"));
  throw new StepFailure(`${what}: ${command.join(" ")} ended with status ${result.status}`);
}

/** Runs `command` and returns how it ended. */
export async function attempt(
  what: string,
  command: readonly string[],
  options: StepOptions = {},
): Promise<StepResult> {
  const startedAt = performance.now();
  const elapsed = () => Math.round((performance.now() - startedAt) / 1000);
  say(`  ${what} ...`);
  const progress = setInterval(() => say(`  ${what} ... ${elapsed()} s`), PROGRESS_INTERVAL_MS);

  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? ".",
    env: { ...process.env, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const chunks: string[] = [];
  try {
    await Promise.all([child.stdout, child.stderr].map((it) => collect(it, chunks, options.live)));
    return { status: await child.exited, output: chunks.join(""), seconds: elapsed() };
  } finally {
    clearInterval(progress);
    child.kill();
  }
}

/** People read stderr; stdout is for data. */
export function say(line: string): void {
  writeAll(2, `${line}\n`);
}

/** Data. Written at once, like everything here: what is printed last is also read last. */
export function print(line: string): void {
  writeAll(1, `${line}\n`);
}

function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += writeSync(descriptor, bytes, offset);
    } catch (error) {
      // A pipe whose reader is slow.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      Bun.sleepSync(1);
    }
  }
}

async function collect(
  stream: ReadableStream<Uint8Array>,
  chunks: string[],
  live = false,
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    chunks.push(text);
    if (live) writeAll(2, text);
  }
}
