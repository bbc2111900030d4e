/**
 * What applications on a host do with a service behind virtual addresses: with curl, ping, dig, and
 * `application-main.ts`. They know nothing of the tunnel, so it is the same whatever carries it there.
 */
import type { BackendPorts } from "./backend.ts";
import { patternDigest } from "./pattern.ts";
import { must } from "./process.ts";
import { RESOLVED } from "./resolver.ts";
import { SERVICE_PORTS } from "./simple-deployment.ts";
import type { VirtualAddresses } from "./virtual-address.ts";

export const FAMILIES = ["ipv4", "ipv6"] as const;
export type Family = (typeof FAMILIES)[number];

const APPLICATION = new URL("application-main.ts", import.meta.url).pathname;
/** Of an echo request's payload; with headers it is still within what pieces carry. */
const PING_OCTETS_MAX = 8000;

export class TunnelUses {
  readonly #prefix: readonly string[];
  readonly #service: VirtualAddresses;

  /** @param prefix what commands on the host are run under. */
  constructor(prefix: readonly string[], service: VirtualAddresses) {
    this.#prefix = prefix;
    this.#service = service;
  }

  url(path: string, family: Family): string {
    const host = family === "ipv6" ? `[${this.#service.ipv6}]` : this.#service.ipv4;
    return `http://${host}:${SERVICE_PORTS.http}${path}`;
  }

  page(family: Family): Promise<string> {
    return this.#must("curl", "-sS", "--max-time", "10", this.url("/hello", family));
  }

  /** Downloads and uploads as many octets; throws unless both arrive as they were. */
  async transfer(family: Family, length: number): Promise<void> {
    const curl = "curl -sS --max-time 600";
    const download = `${curl} ${this.url(`/bytes/${length}`, family)} | sha256sum`;
    const received = (await this.#shell(download)).slice(0, 64);
    if (received !== patternDigest(length)) throw new Error(`the download's digest is ${received}`);

    const zeros = `head -c ${length} /dev/zero`;
    const sent = (await this.#shell(`${zeros} | sha256sum`)).slice(0, 64);
    const upload = `${zeros} | ${curl} -T - -X POST ${this.url("/digest", family)}`;
    const { digest, ...rest } = JSON.parse(await this.#shell(upload));
    if (digest !== sent || rest.length !== length) {
      throw new Error(`of ${length} octets with ${sent} there came ${rest.length} with ${digest}`);
    }
  }

  /** Downloads side by side; returns how many arrived as they were. */
  async parallel(family: Family, count: number, length: number): Promise<number> {
    const one = `curl -sS --max-time 120 ${this.url(`/bytes/${length}`, family)} | sha256sum`;
    const lines = await this.#shell(`for i in $(seq ${count}); do (${one}) & done; wait`);
    return lines.split("\n").filter((it) => it.startsWith(patternDigest(length))).length;
  }

  /** Speaks in turns and half-closes; then half-closes first and is answered after that. */
  async conversation(family: Family): Promise<void> {
    await this.#application("conversation", family, "echo", 500);
    await this.#application("answer", family, "digest", 3_000_000);
  }

  silence(family: Family, seconds: number): Promise<string> {
    return this.#application("silence", family, "echo", seconds);
  }

  /** Echoes each size up to 1,400 octets, and larger ones. */
  datagrams(family: Family, step: number): Promise<string> {
    return this.#application("datagrams", family, "udp", step);
  }

  /** Sends echo requests of 0 to 8,000 octets; returns the sizes that got no answer in three tries. */
  async pings(family: Family, step: number): Promise<string> {
    const ping = `ping -q -c 1 -W 1 -s $size ${this.#service[family]} >/dev/null`;
    const each = `${ping} || ${ping} || ${ping} || echo $size`;
    const sizes = `$(seq 0 ${step} ${PING_OCTETS_MAX}) ${PING_OCTETS_MAX}`;
    return this.#shell(`for size in ${sizes}; do ${each}; done`);
  }

  /** Asks the resolver for both addresses of its name; throws unless it gets them. */
  async resolve(family: Family, transport: "+tcp" | "+notcp"): Promise<void> {
    const dig = ["dig", "+short", "+tries=3", "+time=2", transport, `@${this.#service[family]}`];
    const { name, ipv4, ipv6 } = RESOLVED;
    for (const [type, expected] of [
      ["A", ipv4],
      ["AAAA", ipv6],
    ] as const) {
      const answer = (await this.#must(...dig, name, type)).trim();
      if (answer !== expected) throw new Error(`${type} of ${name} is "${answer}"`);
    }
  }

  #application(kind: string, family: Family, port: keyof BackendPorts, amount: number) {
    const use = [kind, this.#service[family], SERVICE_PORTS[port], amount].map(String);
    return this.#must(process.execPath, APPLICATION, ...use);
  }

  #shell(script: string): Promise<string> {
    return this.#must("bash", "-c", `set -o pipefail; ${script}`);
  }

  #must(...command: readonly string[]): Promise<string> {
    return must([...this.#prefix, ...command]);
  }
}
