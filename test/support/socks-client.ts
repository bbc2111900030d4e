/** SOCKS5 (RFC 1928) as an application speaks it: CONNECT by name, and UDP ASSOCIATE. */
import { TcpClient } from "./tcp-client.ts";
import { UdpClient } from "./udp-client.ts";

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const CONNECT = 1;
const UDP_ASSOCIATE = 3;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;
/** RFC 1928 §7: reserved, fragment and kind of address come first, the port last. */
const DATAGRAM_HEAD = 4;
const PORT = 2;

export interface ProxyAddress {
  readonly host: string;
  readonly port: number;
}

/** What the proxy answered: 0 is success. */
export class SocksRefusal extends Error {
  override readonly name = "SocksRefusal";
  readonly reply: number;

  constructor(reply: number) {
    super(`the proxy answered ${reply}`);
    this.reply = reply;
  }
}

export async function socksConnect(
  proxy: ProxyAddress,
  name: string,
  port: number,
): Promise<TcpClient> {
  const client = await greeted(proxy);
  await request(client, CONNECT, addressOf(name, port));
  return client;
}

/** Opens an association; what the client sends goes to `port` of the service `name`. */
export async function socksUdp(
  proxy: ProxyAddress,
  name: string,
  port: number,
): Promise<UdpClient> {
  const control = await greeted(proxy);
  const relay = await request(control, UDP_ASSOCIATE, Buffer.from([IPV4, 0, 0, 0, 0, 0, 0]));
  const head = Buffer.concat([Buffer.from([0, 0, 0]), addressOf(name, port)]);
  const framing = {
    wrap: (payload: Uint8Array) => Buffer.concat([head, payload]),
    unwrap: (datagram: Buffer) => datagram.subarray(headLength(datagram)),
  };
  // An unspecified address stands for the one that was dialled.
  const host = UNSPECIFIED.has(relay.host) ? proxy.host : relay.host;
  return UdpClient.open(host, relay.port, { framing, onClose: () => control.close() });
}

async function greeted({ host, port }: ProxyAddress): Promise<TcpClient> {
  const client = await TcpClient.open(host, port);
  await client.write(Buffer.from([VERSION, 1, NO_AUTHENTICATION]));
  const [version, method] = await client.read(2);
  if (version !== VERSION || method !== NO_AUTHENTICATION) throw new Error("no SOCKS5 greeting");
  return client;
}

async function request(
  client: TcpClient,
  command: number,
  address: Uint8Array,
): Promise<ProxyAddress> {
  await client.write(Buffer.concat([Buffer.from([VERSION, command, 0]), address]));
  const head = await client.read(4);
  const [, reply = 0xff, , kind] = head;
  if (reply !== 0) throw new SocksRefusal(reply);
  const bytes = await client.read((kind === IPV6 ? 16 : 4) + PORT);
  const octets = bytes.subarray(0, -PORT);
  const host =
    kind === IPV6 ? (octets.toString("hex").match(/.{4}/g) ?? []).join(":") : octets.join(".");
  return { host, port: bytes.readUInt16BE(octets.length) };
}

function headLength(datagram: Buffer): number {
  const kind = datagram[DATAGRAM_HEAD - 1];
  if (kind === NAME) return DATAGRAM_HEAD + 1 + (datagram[DATAGRAM_HEAD] ?? 0) + PORT;
  return DATAGRAM_HEAD + (kind === IPV6 ? 16 : 4) + PORT;
}

function addressOf(name: string, port: number): Buffer {
  const head = Buffer.from([NAME, name.length]);
  return Buffer.concat([head, Buffer.from(name), Buffer.from([port >> 8, port & 0xff])]);
}

const UNSPECIFIED: ReadonlySet<string> = new Set(["0.0.0.0", Array(8).fill("0000").join(":")]);
