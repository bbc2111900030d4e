import { describe, expect, test } from "bun:test";
import { COMMANDS } from "../../../src/cli/commands.ts";
import { completionScript } from "../../../src/cli/completion.ts";

describe("completion", () => {
  test.each([
    { name: "commands", words: ["ztna", "re"], expected: ["relay"] },
    { name: "nested commands", words: ["ztna", "pki", "i"], expected: ["init", "issue"] },
    { name: "flags of a role", words: ["ztna", "relay", "--li"], expected: ["--listen"] },
    {
      name: "flags of a nested command",
      words: ["ztna", "pki", "issue", "agent", "--all"],
      expected: ["--all-services"],
    },
    {
      name: "no flags of another command",
      words: ["ztna", "pki", "show", "--all"],
      expected: [],
    },
    {
      name: "files behind a flag that takes a value",
      words: ["ztna", "relay", "--config", "tsconfig.j"],
      expected: ["tsconfig.json"],
    },
  ] as Offer[])("bash offers $name", ({ words, expected }) => {
    const script = `${completionScript("bash", COMMANDS)}
COMP_WORDS=(${words.map((it) => `'${it}'`).join(" ")}); COMP_CWORD=${words.length - 1}
_ztna; printf '%s\\n' "\${COMPREPLY[@]}"`;

    const { stdout, stderr, exitCode } = Bun.spawnSync(["bash", "-c", script]);

    expect([exitCode, stderr.toString()]).toEqual([0, ""]);
    expect(stdout.toString().split("\n").filter(Boolean).sort()).toEqual(expected);
  });

  test("zsh runs the same words behind its adapter", () => {
    const script = completionScript("zsh", COMMANDS);

    expect(script).toStartWith("#compdef ztna\n");
    expect(script).toContain(completionScript("bash", COMMANDS));
  });

  test("fish is told each command and each flag", () => {
    const script = completionScript("fish", COMMANDS);

    const flags = COMMANDS.flatMap(({ flags = [], configFlags = [] }) => [
      ...flags,
      ...configFlags,
    ]);
    const missing = flags.filter(({ help }) => !script.includes(help.replaceAll("'", "\\'")));
    expect(missing).toEqual([]);
    expect(COMMANDS.filter(({ name }) => !script.includes(` -a ${name} `))).toEqual([]);
  });
});

interface Offer {
  readonly name: string;
  readonly words: readonly string[];
  readonly expected: string[];
}
