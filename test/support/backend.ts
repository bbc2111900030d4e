/** Starts the services of `backend-main.ts` and tells where they are. */
import { TestProcess } from "./process.ts";

export interface BackendPorts {
  readonly http: number;
  readonly digest: number;
  readonly echo: number;
  readonly udp: number;
}

export interface Backend {
  readonly process: TestProcess;
  readonly host: string;
  readonly ports: BackendPorts;
}

/** @param prefix what the command is run under: a namespace. */
export async function startBackend(
  host = "127.0.0.1",
  prefix: readonly string[] = [],
): Promise<Backend> {
  const main = new URL("backend-main.ts", import.meta.url).pathname;
  const child = new TestProcess([...prefix, process.execPath, main, host], { name: "backend" });
  const line = await child.line(/^\{/, { withinMs: 10_000 });
  return { process: child, host, ports: JSON.parse(line) as BackendPorts };
}
