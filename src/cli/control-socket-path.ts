/** Where the agent of this user answers `status` and `ping`. */
import { environmentName } from "./load-config.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Flag, else the variable that the agent obeys as well, else the place of this user's agent. */
export async function controlSocketOf(
  flag: string | undefined,
  environment: Environment,
): Promise<string> {
  const { defaultControlSocket } = await import("../agent/control-protocol.ts");
  return (
    flag ??
    environment[environmentName("controlSocket")] ??
    defaultControlSocket(environment, ownUserId())
  );
}

/** On systems without user ids there is one user, whose files are private by other means. */
export function ownUserId(): number {
  return process.getuid?.() ?? 0;
}
