/** `ztna completion bash|zsh|fish`. */
import { OperatorError } from "../../base/error.ts";
import type { Command, Invocation } from "../command.ts";
import { completionScript, SHELLS } from "../completion.ts";
import { ExitCode } from "../exit.ts";

export async function printCompletion(
  invocation: Invocation,
  commands: readonly Command[],
): Promise<ExitCode> {
  const [wanted] = invocation.arguments;
  const shell = SHELLS.find((it) => it === wanted);
  if (shell === undefined) {
    throw new OperatorError("USAGE", `there is no completion for "${wanted}"`, {
      hint: `Choose one of ${SHELLS.join(", ")}.`,
    });
  }
  invocation.console.stdout.write(completionScript(shell, commands));
  return ExitCode.Ok;
}
