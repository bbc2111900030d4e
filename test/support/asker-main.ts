/**
 * An application that says one marker many times and counts the answers: a process of its own, so that
 * it can run in any network namespace.
 *
 *   bun asker-main.ts tcp|udp|http HOST PORT LOCAL_PORT TIMES MARKER
 *
 * MARKER is hex. `tcp` and `udp` send its octets to a service that echoes them, `http` puts the hex into
 * the path of a request. Prints one line of JSON: how many were sent, came back, and came back wrong.
 */
import { TcpClient } from "./tcp-client.ts";
import { UdpClient } from "./udp-client.ts";

const [kind, host = "", port, localPort, times, hex = ""] = Bun.argv.slice(2);
const marker = Buffer.from(hex, "hex");
const sent = Number(times);

const ask = { tcp: overTcp, udp: overUdp, http: overHttp }[String(kind)];
if (ask === undefined) throw new Error(`no such kind: ${kind}`);
const { own, foreign } = await ask();
process.stdout.write(`${JSON.stringify({ sent, own, foreign })}\n`);
process.exit(0);

async function overTcp(): Promise<{ own: number; foreign: number }> {
  const client = await TcpClient.open(host, Number(port), Number(localPort));
  let own = 0;
  for (let turn = 0; turn < sent; turn += 1) {
    await client.write(marker);
    if ((await client.read(marker.length)).equals(marker)) own += 1;
  }
  client.close();
  return { own, foreign: sent - own };
}

async function overUdp(): Promise<{ own: number; foreign: number }> {
  const client = await UdpClient.open(host, Number(port), { localPort: Number(localPort) });
  for (let turn = 0; turn < sent; turn += 1) {
    client.send(marker);
    await Bun.sleep(1);
  }
  // What is under way arrives, or is lost.
  await Bun.sleep(500);
  const own = client.received.filter((it) => it.equals(marker)).length;
  client.close();
  return { own, foreign: client.received.length - own };
}

async function overHttp(): Promise<{ own: number; foreign: number }> {
  let own = 0;
  for (let turn = 0; turn < sent; turn += 1) {
    const answer = await fetch(`http://${host}:${port}/${hex}`);
    if (answer.status === 404) own += 1;
    await answer.text();
  }
  return { own, foreign: sent - own };
}
