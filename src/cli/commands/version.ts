/** `ztna version`. */
import { version } from "../../../package.json";
import { hasFlag, type Invocation } from "../command.ts";
import { ExitCode } from "../exit.ts";

export async function showVersion(invocation: Invocation): Promise<ExitCode> {
  const text = hasFlag(invocation, "json")
    ? JSON.stringify({ version: 1, ztna: version, bun: Bun.version })
    : `ztna ${version}`;
  invocation.console.stdout.write(`${text}\n`);
  return ExitCode.Ok;
}
