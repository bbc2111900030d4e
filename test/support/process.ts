/**
 * Processes of a test: their output is kept line by line, and none outlives the test.
 *
 * A process is ended by its own id and never by its name.
 */
import { eventually, type Patience } from "./eventually.ts";

export interface SpawnOptions {
  /** Goes in front of every line in {@link TestProcess.log}. */
  readonly name: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Descriptors of the child from 3 on. */
  readonly inherit?: readonly number[];
  /** Whether it reads what is written to it. */
  readonly stdin?: boolean;
}

export class TestProcess {
  readonly name: string;
  readonly #child: Bun.Subprocess;
  readonly #lines: string[] = [];
  readonly #drained: Promise<unknown>;

  constructor(
    command: readonly string[],
    { name, env, cwd, inherit = [], stdin = false }: SpawnOptions,
  ) {
    this.name = name;
    this.#child = Bun.spawn([...command], {
      cwd: cwd ?? ".",
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdio: [stdin ? "pipe" : "ignore", "pipe", "pipe", ...inherit],
    });
    const streams = [this.#child.stdout, this.#child.stderr] as ReadableStream<Uint8Array>[];
    this.#drained = Promise.all(streams.map((it) => this.#collect(it)));
    running.add(this);
    this.#child.exited.finally(() => running.delete(this));
  }

  get pid(): number {
    return this.#child.pid;
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  get hasExited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  write(text: string): void {
    const stdin = this.#stdin();
    stdin.write(text);
    stdin.flush();
  }

  /** Ends the process's standard input. */
  endInput(): void {
    this.#stdin().end();
  }

  /** The last lines, for a failure's message. */
  log(count = 40): string {
    return this.#lines
      .slice(-count)
      .map((line) => `${this.name}: ${line}`)
      .join("\n");
  }

  /** Returns the first line from `from` on that matches. Fails at once if the process has ended. */
  async line(pattern: RegExp, patience: Patience, from = 0): Promise<string> {
    const found = () => this.#lines.slice(from).find((line) => pattern.test(line));
    const result = await eventually(`${this.name} prints ${pattern}`, patience, async () => {
      if (!this.hasExited) return found();
      await this.#drained;
      return found() ?? null;
    }).catch((error: unknown) => {
      throw new Error(`${error}\n${this.log()}`);
    });
    if (result === null)
      throw new Error(`${this.name} ended before it printed ${pattern}\n${this.log()}`);
    return result;
  }

  /** Sends a signal and returns the exit code; after `withinMs` the process is killed and that is an error. */
  async stop(signal: NodeJS.Signals = "SIGTERM", withinMs = 10_000): Promise<number> {
    if (!this.hasExited) this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), withinMs);
    const code = await this.#child.exited;
    clearTimeout(timer);
    await this.#drained;
    if (this.#child.signalCode === "SIGKILL" && signal !== "SIGKILL") {
      throw new Error(`${this.name} did not end within ${withinMs} ms of ${signal}\n${this.log()}`);
    }
    return code;
  }

  #stdin(): Bun.FileSink {
    const { stdin } = this.#child;
    if (stdin === undefined || typeof stdin !== "object") {
      throw new Error(`${this.name} reads nothing`);
    }
    return stdin;
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      const pieces = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = pieces.pop() ?? "";
      this.#lines.push(...pieces);
    }
    if (rest !== "") this.#lines.push(rest);
  }
}

/** Runs a command to its end. */
export async function run(
  command: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string | undefined>>;
    readonly stdin?: string;
  } = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = Bun.spawn([...command], {
    env: { ...process.env, NO_COLOR: "1", ...options.env },
    stdin: options.stdin === undefined ? "ignore" : new Blob([options.stdin]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

/** Runs a command that must succeed and returns its standard output. */
export async function must(command: readonly string[], stdin?: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, stdin === undefined ? {} : { stdin });
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${stderr || stdout}`);
  return stdout;
}

const running = new Set<TestProcess>();
// An interrupted test run leaves nothing behind.
process.on("exit", () => {
  for (const it of running) process.kill(it.pid, "SIGKILL");
});
