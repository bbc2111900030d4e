/** A DNS resolver as a backend: dnsmasq, which knows one name and asks nobody. */
import { freePort } from "./ports.ts";
import { TestProcess } from "./process.ts";

export const RESOLVED = { name: "app.example", ipv4: "192.0.2.53", ipv6: "2001:db8::53" } as const;

/** Why there can be no resolver, or undefined if there can. */
export function resolverUnavailable(): string | undefined {
  const missing = ["dnsmasq", "dig"].filter((command) => Bun.which(command) === null);
  return missing.length === 0 ? undefined : `needs the commands ${missing.join(" and ")}`;
}

export interface Resolver {
  readonly process: TestProcess;
  readonly host: string;
  readonly port: number;
}

/** @param prefix what the command is run under: a namespace. */
export async function startResolver(
  host = "127.0.0.1",
  prefix: readonly string[] = [],
): Promise<Resolver> {
  const port = await freePort();
  const { name, ipv4, ipv6 } = RESOLVED;
  const command = [
    ...["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file"],
    ...["--no-resolv", "--no-hosts", "--bind-interfaces", "--log-facility=-", "--user=root"],
    ...[`--port=${port}`, `--listen-address=${host}`],
    ...[`--address=/${name}/${ipv4}`, `--address=/${name}/${ipv6}`],
  ];
  const process = new TestProcess([...prefix, ...command], { name: "resolver" });
  await process.line(/started/, { withinMs: 5000 });
  return { process, host, port };
}

/** Returns the question for the IPv4 address of the name that the resolver knows (RFC 1035 §4). */
export function question(id: number): Buffer {
  const head = Buffer.from([id >> 8, id & 0xff, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const labels = RESOLVED.name.split(".").map((it) => Buffer.from(`${NUL}${it}`));
  for (const label of labels) label[0] = label.length - 1;
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}

/** Returns whether it answers the question with that address. */
export function isAnswer(datagram: Buffer, id: number): boolean {
  const address = Buffer.from(RESOLVED.ipv4.split(".").map(Number));
  return datagram.readUInt16BE() === id && datagram.subarray(-address.length).equals(address);
}

const NUL = "\0";
