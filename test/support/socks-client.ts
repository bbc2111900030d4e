/** SOCKS5 (RFC 1928) as an application speaks it: CONNECT by name, and UDP ASSOCIATE. */
import { TcpClient } from "./tcp-client.ts";

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const CONNECT = 1;
const UDP_ASSOCIATE = 3;
const IPV4 = 1;
const NAME = 3;

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

/** Where to send datagrams; they flow as long as `control` stays open. */
export async function socksAssociate(
  proxy: ProxyAddress,
): Promise<{ control: TcpClient; relay: ProxyAddress }> {
  const control = await greeted(proxy);
  const relay = await request(control, UDP_ASSOCIATE, Buffer.from([IPV4, 0, 0, 0, 0, 0, 0]));
  // 0.0.0.0 stands for the address that was dialled.
  return { control, relay: relay.host === "0.0.0.0" ? { ...relay, host: proxy.host } : relay };
}

/** Puts the header of RFC 1928 §7 before a payload. */
export function socksDatagram(name: string, port: number, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0, 0, 0]), addressOf(name, port), payload]);
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
  const bytes = await client.read(kind === IPV4 ? 6 : 18);
  const host = [...bytes.subarray(0, -2)].join(".");
  return { host, port: bytes.readUInt16BE(bytes.length - 2) };
}

function addressOf(name: string, port: number): Buffer {
  const head = Buffer.from([NAME, name.length]);
  return Buffer.concat([head, Buffer.from(name), Buffer.from([port >> 8, port & 0xff])]);
}
