/** Shell completion scripts, written from the command table: names and flags, no guessing of values. */
import { type Command, nameOfFlag, takesValue } from "./command.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;

export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, commands: readonly Command[]): string {
  switch (shell) {
    case "bash":
      return bash(commands);
    case "zsh":
      // zsh runs bash completions behind this adapter, which it ships.
      return `#compdef ztna\nautoload -U +X bashcompinit && bashcompinit\n${bash(commands)}`;
    case "fish":
      return fish(commands);
  }
}

interface Place {
  /** Words after `ztna`: `pki issue`. */
  readonly words: string;
  readonly command: Command;
}

function places(commands: readonly Command[], prefix = ""): readonly Place[] {
  return commands.flatMap((command) => {
    const words = prefix === "" ? command.name : `${prefix} ${command.name}`;
    return [{ words, command }, ...places(command.commands ?? [], words)];
  });
}

function bash(commands: readonly Command[]): string {
  const all = places(commands);
  const cases = all.map(({ words, command }) => {
    const inner = (command.commands ?? []).map(({ name }) => name);
    return `    "${words}") candidates="${[...inner, ...flagNames(command)].join(" ")}" ;;`;
  });
  const known = all.map(({ words }) => `"${words}"`).join("|");
  const valued = [...new Set(all.flatMap(({ command }) => valueFlagNames(command)))].join("|");
  return `_ztna() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local place="" candidates="" word index
  COMPREPLY=()
  case "$previous" in
    ${valued}) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    case "\${place:+$place }$word" in
      ${known}) place="\${place:+$place }$word" ;;
    esac
  done
  case "$place" in
    "") candidates="${commands.map(({ name }) => name).join(" ")} help --help" ;;
${cases.join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
}
complete -o default -F _ztna ztna
`;
}

function fish(commands: readonly Command[]): string {
  const lines = ["complete -c ztna -f"];
  for (const { name, summary } of commands) {
    lines.push(`complete -c ztna -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}`);
  }
  for (const { words, command } of places(commands)) {
    const here = `-n ${quoted(condition(words, command))}`;
    for (const { name, summary } of command.commands ?? []) {
      lines.push(`complete -c ztna ${here} -a ${name} -d ${quoted(summary)}`);
    }
    for (const { flag, help } of flagsOf(command)) {
      const value = takesValue(flag) ? " -r -F" : "";
      lines.push(`complete -c ztna ${here} -l ${nameOfFlag(flag)}${value} -d ${quoted(help)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function condition(words: string, { commands = [] }: Command): string {
  const seen = words.split(" ").map((word) => `__fish_seen_subcommand_from ${word}`);
  const inner = commands.map(({ name }) => name).join(" ");
  return [...seen, ...(inner === "" ? [] : [`not __fish_seen_subcommand_from ${inner}`])].join(
    "; and ",
  );
}

function flagsOf({ flags = [], configFlags = [] }: Command) {
  return [...flags, ...configFlags];
}

function flagNames(command: Command): string[] {
  return [...flagsOf(command).map(({ flag }) => `--${nameOfFlag(flag)}`), "--help"];
}

function valueFlagNames(command: Command): string[] {
  return flagsOf(command)
    .filter(({ flag }) => takesValue(flag))
    .map(({ flag }) => `--${nameOfFlag(flag)}`);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "\\'")}'`;
}
