/** Has a role run as if the kernel were short of memory (`short-kernel.c`). */
import type { Deployment, Role } from "./deployment.ts";
import { must } from "./process.ts";

const SOURCE = new URL("short-kernel.c", import.meta.url).pathname;

export interface Shortage {
  /** Sends fail with ENOBUFS while the file is there. */
  readonly noBuffersWhile?: string;
  /** Octets of each UDP socket's buffer for what is sent. */
  readonly sendBuffer?: number;
}

/** Why it cannot be played here, or undefined if it can. */
export function shortageUnavailable(): string | undefined {
  if (process.platform !== "linux") return "needs Linux";
  return Bun.which("cc") === null ? "needs the command cc" : undefined;
}

/** Ends the role and starts it again under the shortage; returns what has taken its place. */
export async function startShort(
  deployment: Deployment,
  role: Role,
  { noBuffersWhile, sendBuffer }: Shortage,
): Promise<Role> {
  const library = deployment.file("short-kernel.so");
  await must(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE]);
  await role.stop();

  const variables = [
    `LD_PRELOAD=${library}`,
    ...(noBuffersWhile === undefined ? [] : [`NO_BUFFERS_WHILE=${noBuffersWhile}`]),
    ...(sendBuffer === undefined ? [] : [`SEND_BUFFER=${sendBuffer}`]),
  ];
  const short = await deployment.add({ ...role.spec, under: ["env", ...variables] });
  await short.ready();
  return short;
}
