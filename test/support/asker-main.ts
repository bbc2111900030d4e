/**
 * An application that says one marker many times and counts the answers: a process of its own, so that
 * it can run in any network namespace.
 *
 *   bun asker-main.ts tcp|udp|http HOST PORT LOCAL_PORT TIMES MARKER
 *
 * MARKER is hex. `tcp` and `udp` send its octets to a service that echoes them, `http` puts the hex into
 * the path of a request whose answer it is. Each time the answer is waited for. Prints one line of JSON,
 * an {@link Asked}.
 */
import { TcpClient } from "./tcp-client.ts";
import { UdpClient } from "./udp-client.ts";

export interface Asked {
  /** How often the marker came back. */
  readonly own: number;
  /** How often something else did. */
  readonly foreign: number;
  /** When the first was sent and the last came, in milliseconds since 1970. */
  readonly startedAt: number;
  readonly endedAt: number;
}

const [kind, host = "", port, localPort, times, hex = ""] = Bun.argv.slice(2);
const marker = Buffer.from(hex, "hex");
const turns = Number(times);

const ask = { tcp: overTcp, udp: overUdp, http: overHttp }[String(kind)];
if (ask === undefined) throw new Error(`no such kind: ${kind}`);
const startedAt = Date.now();
const answers = await ask();
const asked: Asked = { ...answers, startedAt, endedAt: Date.now() };
process.stdout.write(`${JSON.stringify(asked)}\n`);
process.exit(0);

async function overTcp(): Promise<{ own: number; foreign: number }> {
  const client = await TcpClient.open(host, Number(port), Number(localPort));
  let own = 0;
  for (let turn = 0; turn < turns; turn += 1) {
    await client.write(marker);
    if ((await client.read(marker.length)).equals(marker)) own += 1;
  }
  client.close();
  return { own, foreign: turns - own };
}

async function overUdp(): Promise<{ own: number; foreign: number }> {
  const client = await UdpClient.open(host, Number(port), { localPort: Number(localPort) });
  const own = () => client.received.filter((it) => it.equals(marker)).length;
  for (let turn = 1; turn <= turns; turn += 1) {
    await client.ask(marker, () => own() >= turn);
    await Bun.sleep(1);
  }
  // What was sent twice may be answered twice.
  await Bun.sleep(200);
  const answers = { own: own(), foreign: client.received.length - own() };
  client.close();
  return answers;
}

async function overHttp(): Promise<{ own: number; foreign: number }> {
  let own = 0;
  for (let turn = 0; turn < turns; turn += 1) {
    const answer = await fetch(`http://${host}:${port}/say/${hex}`);
    if ((await answer.text()) === hex) own += 1;
  }
  return { own, foreign: turns - own };
}
