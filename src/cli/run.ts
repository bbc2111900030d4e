/**
 * Parses the command line by the command table and runs what it names.
 *
 * The only place that ends the process. Commands are loaded when they run, and help never loads
 * one: it must come at once, also where the data plane cannot be loaded.
 */
import { CommanderError, Command as Parser } from "commander";
import { OperatorError } from "../base/error.ts";
import { logToDescriptor } from "../observability/log-output.ts";
import { type Command, type Console, type Flag, nameOfFlag } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { describeFailure, ExitCode } from "./exit.ts";
import type { FlagValue } from "./load-config.ts";
import { nearestName } from "./nearest.ts";

/** Runs `argv` and ends the process. */
export async function main(argv: readonly string[]): Promise<never> {
  const exitCode = await run(argv, {
    stdout: process.stdout,
    stderr: process.stderr,
    environment: process.env,
    openLogs: () => logToDescriptor(1),
    loadDataPlane: async () => {
      const { openNativeEndpoint } = await import("../transport/native-endpoint.ts");
      return openNativeEndpoint;
    },
  });
  await Promise.all([process.stdout, process.stderr].map(ended));
  process.exit(exitCode);
}

export async function run(argv: readonly string[], console: Console): Promise<ExitCode> {
  try {
    return await dispatch(argv, console);
  } catch (error) {
    const { lines, exitCode } = describeFailure(error);
    console.stderr.write(`${lines.join("\n")}\n`);
    return exitCode;
  }
}

async function dispatch(argv: readonly string[], console: Console): Promise<ExitCode> {
  let exitCode: ExitCode = ExitCode.Ok;
  const program = parserOf(PROGRAM, console, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    exitCode = error.exitCode === 0 ? ExitCode.Ok : ExitCode.Usage;
  }
  return exitCode;
}

const PROGRAM: Command = {
  name: "ztna",
  summary: "Zero-trust access to private services, end-to-end encrypted. One binary, three roles.",
  commands: COMMANDS,
  flags: [],
};

function parserOf(command: Command, console: Console, done: (code: ExitCode) => void): Parser {
  const parser = new Parser(command.name)
    .description(command.summary)
    .helpOption("-h, --help", "show this help")
    .helpCommand(command.commands !== undefined)
    .allowExcessArguments(false)
    .showSuggestionAfterError(false)
    .configureOutput({
      writeOut: (text) => console.stdout.write(text),
      writeErr: (text) => console.stderr.write(text),
      outputError: () => {},
    })
    .exitOverride((error) => {
      throw HELP_CODES.includes(error.code) ? error : usageError(command, error);
    });
  for (const argument of command.arguments ?? []) parser.argument(argument);
  for (const flag of flagsOf(command)) addFlag(parser, flag);
  for (const inner of command.commands ?? []) parser.addCommand(parserOf(inner, console, done));
  if (command.examples !== undefined) {
    parser.addHelpText("after", `\nExamples:\n  ${command.examples.join("\n  ")}`);
  }

  const { run: execute } = command;
  if (execute !== undefined) {
    parser.action(async () => {
      done(await execute({ arguments: parser.args, flags: givenFlags(command, parser), console }));
    });
  }
  return parser;
}

function flagsOf({ flags = [], configFlags = [] }: Command): readonly Flag[] {
  return [...flags, ...configFlags];
}

function addFlag(parser: Parser, { flag, help, repeats = false }: Flag): void {
  if (repeats) {
    const collect = (value: string, former: string[] | undefined) => [...(former ?? []), value];
    parser.option(flag, `${help} (may be repeated)`, collect);
  } else {
    parser.option(flag, help);
  }
}

function givenFlags(command: Command, parser: Parser): ReadonlyMap<string, FlagValue> {
  const values: Record<string, FlagValue | undefined> = parser.opts();
  const given = new Map<string, FlagValue>();
  for (const { flag } of flagsOf(command)) {
    const name = nameOfFlag(flag);
    const value = values[name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())];
    if (value !== undefined) given.set(name, value);
  }
  return given;
}

/** Help was asked for, or shown because no command was named: there is nothing to add. */
const HELP_CODES = ["commander.help", "commander.helpDisplayed"];

function usageError(command: Command, error: CommanderError): OperatorError {
  const typed = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  if (error.code === "commander.unknownOption") {
    return unknownFlag(command, typed.split("=")[0] ?? typed);
  }
  if (error.code === "commander.unknownCommand") return unknownCommand(command, typed);

  const message = error.message.replace(/^error: /, "").replace(/\.$/, "");
  return new OperatorError("USAGE", message, { hint: seeHelp(command) });
}

function unknownFlag(command: Command, typed: string): OperatorError {
  const known = flagsOf(command).map(({ flag }) => `--${nameOfFlag(flag)}`);
  const renamed = command.renamedFlags?.[typed];
  const near = nearestName(typed, [...known, "--help"]);
  const hint =
    renamed === undefined
      ? near === undefined
        ? seeHelp(command)
        : `Did you mean ${near}?`
      : `Write ${renamed}.`;
  return new OperatorError("USAGE", `${command.name} has no flag ${typed}`, { hint });
}

function unknownCommand(command: Command, typed: string): OperatorError {
  const near = nearestName(
    typed,
    (command.commands ?? []).map(({ name }) => name),
  );
  return new OperatorError("USAGE", `${command.name} has no command ${typed}`, {
    hint: near === undefined ? seeHelp(command) : `Did you mean ${near}?`,
  });
}

function seeHelp({ name }: Command): string {
  return name === PROGRAM.name ? "See `ztna --help`." : `See \`ztna help ${name}\`.`;
}

/** Ending the process would cut off what a slow reader has not read yet. */
function ended(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    // A reader that went away is no reason to wait.
    stream.once("error", () => resolve());
    stream.end(() => resolve());
  });
}
