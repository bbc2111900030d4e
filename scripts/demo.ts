/**
 * The product on one machine, with nothing left behind: relay, connector, agent and two services.
 *
 *   npm run demo              stays up until Ctrl-C
 *   npm run demo -- --once    ends after the proof; the exit code tells whether it held
 *
 * Everything is on loopback, needs no root, and lives in a temporary directory.
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { AgentStatus } from "../src/agent/status.ts";
import { must } from "../test/support/process.ts";
import {
  SERVICE,
  SERVICE_PORTS,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../test/support/simple-deployment.ts";
import { UdpClient } from "../test/support/udp-client.ts";
import { build } from "./build.ts";
import { print, say } from "./lib/step.ts";
import { table } from "./lib/table.ts";

const DATAGRAMS = 100;
const CLI = ["dist/ztna"];

process.chdir(resolve(import.meta.dir, ".."));
process.exit(await main());

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { once: { type: "boolean", default: false } } });
  // Before anything is started, so that nothing is left running whenever it comes.
  const interrupted = new Promise<void>((done) => {
    process.once("SIGINT", done);
    process.once("SIGTERM", done);
  });

  let demo: SimpleDeployment | undefined;
  try {
    await build();
    say("starting");
    demo = await startSimpleDeployment({
      tell: (what) => say(`  ${what}`),
      directoryPrefix: "ztna-demo-",
    });
    const running = demo;
    const proof = await running.deployment.explain(() => prove(running));
    for (const line of [...proof, ...nextSteps(running)]) print(line);
    if (!values.once) await interrupted;
    return 0;
  } catch (error) {
    say(`error: ${error instanceof Error ? error.message : error}`);
    return 1;
  } finally {
    if (demo !== undefined) {
      say("stopping");
      await demo.deployment.remove();
    }
  }
}

/** Sends real traffic through the tunnel and returns the table of what happened. */
async function prove(demo: SimpleDeployment): Promise<string[]> {
  const url = `http://127.0.0.1:${demo.forwards.http}/hello`;
  const page = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  const text = (await page.text()).trim();
  if (text !== "hello from the backend") throw new Error(`${url} answered: ${text}`);
  say(`  fetched ${url}: "${text}"`);

  const client = await UdpClient.open("127.0.0.1", demo.forwards.udp);
  for (let count = 0; count < DATAGRAMS; count += 1) {
    await client.echo(Buffer.from(`datagram ${count} of ${DATAGRAMS}`));
  }
  client.close();
  say(`  echoed ${DATAGRAMS} datagrams at 127.0.0.1:${demo.forwards.udp}`);

  return [...(await statusTable(demo)), ""];
}

async function statusTable(demo: SimpleDeployment): Promise<string[]> {
  const stdout = await must([...CLI, "status", "--json", "--control-socket", demo.controlSocket]);
  const status = JSON.parse(stdout) as AgentStatus;
  const rows = status.services.map((it) => [
    it.name,
    it.ipv4 ?? "-",
    it.path?.kind.toUpperCase() ?? "-",
    it.path === undefined ? "-" : `${(it.path.rttUs / 1000).toFixed(2)} ms`,
    it.bytesUp + it.bytesDown,
  ]);
  if (rows.length === 0) throw new Error("the agent has no services");
  return table([["service", "address", "path", "RTT", "bytes"], ...rows]);
}

function nextSteps(demo: SimpleDeployment): string[] {
  const { forwards, socks, controlSocket } = demo;
  const control = `--control-socket ${controlSocket}`;
  return [
    "try, in another terminal:",
    `  curl http://127.0.0.1:${forwards.http}/hello`,
    `  curl --proxy socks5h://${socks.host}:${socks.port} http://${SERVICE}:${SERVICE_PORTS.http}/hello`,
    `  curl http://127.0.0.1:${forwards.http}/bytes/100000000 | sha256sum`,
    `  dist/ztna status ${control}`,
    `  dist/ztna ping ${SERVICE} ${control}`,
    "",
    "Ctrl-C ends it and removes everything.",
  ];
}
