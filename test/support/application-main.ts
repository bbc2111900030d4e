/**
 * An application that knows nothing of the tunnel: a process of its own, so that it can run in any
 * network namespace. It fails with an exit code and a reason, or prints `ok`.
 *
 *   bun application-main.ts conversation HOST PORT TURNS     speaks in turns, then half-closes
 *   bun application-main.ts answer HOST PORT LENGTH          half-closes, and only then is answered
 *   bun application-main.ts silence HOST PORT SECONDS        speaks, is silent, speaks again
 *   bun application-main.ts datagrams HOST PORT STEP         echoes each size up to 1,400, and larger
 */
import { pattern, patternDigest } from "./pattern.ts";
import { TcpClient } from "./tcp-client.ts";
import { UdpClient } from "./udp-client.ts";

const [kind = "", host = "", port, amount] = Bun.argv.slice(2);

const uses: Readonly<Record<string, (amount: number) => Promise<void>>> = {
  conversation,
  answer,
  silence,
  datagrams,
};
const use = uses[kind];
if (use === undefined) throw new Error(`no such application: ${kind}`);
await use(Number(amount));
process.stdout.write("ok\n");
process.exit(0);

async function conversation(turns: number): Promise<void> {
  const client = await TcpClient.open(host, Number(port));
  for (let turn = 0; turn < turns; turn += 1) await say(client, `turn ${turn} ${"x".repeat(turn)}`);
  client.finish();
  const rest = await client.readToEnd();
  if (rest.length > 0) throw new Error(`${rest.length} octets more than were said`);
}

async function answer(length: number): Promise<void> {
  const client = await TcpClient.open(host, Number(port));
  for (const block of pattern(length)) await client.write(block);
  client.finish();
  const text = (await client.readToEnd()).toString();
  if (text !== `${length} ${patternDigest(length)}\n`) throw new Error(`the answer is "${text}"`);
}

async function silence(seconds: number): Promise<void> {
  const client = await TcpClient.open(host, Number(port));
  await say(client, "before");
  await Bun.sleep(seconds * 1000);
  await say(client, "after");
  client.close();
}

async function datagrams(step: number): Promise<void> {
  const client = await UdpClient.open(host, Number(port));
  for (let size = 0; size <= 1400; size += step) await client.echo(Buffer.alloc(size, size % 251));
  for (const size of [1401, 2000, 4096, 9000]) await client.echo(Buffer.alloc(size, 7));
  client.close();
}

async function say(client: TcpClient, words: string): Promise<void> {
  await client.write(words);
  const echoed = (await client.read(words.length)).toString();
  if (echoed !== words) throw new Error(`"${words}" came back as "${echoed}"`);
}
