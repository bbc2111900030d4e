/**
 * Hosts of a test's own: network namespaces joined by links and bridges, removed when the test is over.
 *
 * Nothing of the machine's own network is touched: a bridge lives in a namespace too, and names
 * carry the id of this process, so that several runs do not meet.
 */
import { must, run } from "./process.ts";

/** Why namespaces cannot be made here, or undefined if they can. */
export async function namespacesUnavailable(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "needs root";
  if (Bun.which("ip") === null) return "needs the command ip";
  const probe = `${PREFIX}-probe`;
  const { code, stderr } = await run(["ip", "netns", "add", probe]);
  if (code !== 0) return `needs network namespaces: ${stderr.trim()}`;
  await must(["ip", "netns", "delete", probe]);
  return undefined;
}

export interface Tunnel {
  readonly mtu: number;
  /** "address/prefix". */
  readonly addresses: readonly string[];
  readonly routes: readonly string[];
}

export class Network {
  readonly #prefix: string = `${PREFIX}-${networks++}`;
  readonly #namespaces: string[] = [];
  #links = 0;

  /** Makes a host and returns the prefix under which its commands run. */
  async addHost(name: string): Promise<readonly string[]> {
    const namespace = this.#namespaceOf(name);
    await must(["ip", "netns", "add", namespace]);
    this.#namespaces.push(namespace);
    await this.#ip(name, "link", "set", "lo", "up");
    return this.prefixOf(name);
  }

  /** What commands on the host are run under. */
  prefixOf(name: string): readonly string[] {
    return ["ip", "netns", "exec", this.#namespaceOf(name)];
  }

  /** Makes a host that joins all links which name it. */
  async addSwitch(name: string): Promise<void> {
    await this.addHost(name);
    await this.#ip(name, "link", "add", "bridge", "type", "bridge");
    await this.#ip(name, "link", "set", "bridge", "up");
  }

  /** Connects `host` to a switch, with addresses in "address/prefix" form. */
  async plug(host: string, into: string, addresses: readonly string[]): Promise<void> {
    const far = `port${this.#links}`;
    await this.#link(host, into, far, addresses);
    await this.#ip(into, "link", "set", far, "master", "bridge");
    await this.#ip(into, "link", "set", far, "up");
  }

  /** Connects two hosts with each other alone. */
  async join(
    a: { readonly host: string; readonly addresses: readonly string[] },
    b: { readonly host: string; readonly addresses: readonly string[] },
  ): Promise<void> {
    const far = `link${this.#links}`;
    await this.#link(a.host, b.host, far, a.addresses);
    await this.#addAddresses(b.host, far, b.addresses);
  }

  /** Has `host` reach `network` over `gateway`. */
  async addRoute(host: string, network: string, gateway: string): Promise<void> {
    await this.#ip(host, "route", "add", network, "via", gateway);
  }

  /** Makes a TUN device that waits for whoever opens it, with the addresses and routes of a tunnel. */
  async addTun(host: string, device: string, tunnel: Tunnel): Promise<void> {
    await this.#ip(host, "tuntap", "add", device, "mode", "tun");
    await this.#ip(host, "link", "set", device, "mtu", String(tunnel.mtu));
    await this.#addAddresses(host, device, tunnel.addresses);
    for (const route of tunnel.routes) await this.#ip(host, "route", "add", route, "dev", device);
  }

  /** Gives `device` of one host to another, with addresses, and brings it up. */
  async move(
    device: string,
    from: string,
    to: string,
    addresses: readonly string[],
  ): Promise<void> {
    await this.#ip(from, "link", "set", device, "netns", this.#namespaceOf(to));
    await this.#addAddresses(to, device, addresses);
  }

  async remove(): Promise<void> {
    for (const namespace of this.#namespaces.splice(0)) {
      await run(["ip", "netns", "delete", namespace]);
    }
  }

  async #link(
    near: string,
    far: string,
    farDevice: string,
    addresses: readonly string[],
  ): Promise<void> {
    const device = `eth${this.#links}`;
    this.#links += 1;
    await this.#ip(
      ...([near, "link", "add", device, "type", "veth", "peer", "name", farDevice] as const),
      ...["netns", this.#namespaceOf(far)],
    );
    await this.#addAddresses(near, device, addresses);
  }

  async #addAddresses(host: string, device: string, addresses: readonly string[]): Promise<void> {
    for (const address of addresses) {
      // Without duplicate detection an IPv6 address may be used at once.
      const nodad = address.includes(":") ? ["nodad"] : [];
      await this.#ip(host, "address", "add", address, "dev", device, ...nodad);
    }
    await this.#ip(host, "link", "set", device, "up");
  }

  #ip(host: string, ...command: readonly string[]): Promise<string> {
    return must(["ip", "-netns", this.#namespaceOf(host), ...command]);
  }

  #namespaceOf(host: string): string {
    return `${this.#prefix}-${host}`;
  }
}

const PREFIX = `ztna-test-${process.pid}`;
/** One test may have several networks at a time. */
let networks = 0;
