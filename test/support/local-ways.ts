/** The ways of an agent without TUN: forwarded ports and a SOCKS5 proxy, on one local address. */

import { freePort } from "./ports.ts";
import { SERVICE, SERVICE_PORTS } from "./simple-deployment.ts";
import { socksConnect, socksUdp } from "./socks-client.ts";
import { TcpClient } from "./tcp-client.ts";
import { UdpClient } from "./udp-client.ts";

/** How an application reaches the ports of the service. */
export interface LocalWay {
  /** Arguments of curl for a page of the service. */
  curl(path: string): readonly string[];
  tcp(port: "digest" | "echo"): Promise<TcpClient>;
  udp(port: "udp" | "dns"): Promise<UdpClient>;
}

type Ports = Readonly<Record<keyof typeof SERVICE_PORTS, number>>;

/** The local addresses of one agent. */
export class LocalWays {
  readonly #host: string;
  readonly #ports: Ports;
  readonly #socksPort: number;

  private constructor(host: string, ports: Ports, socksPort: number) {
    this.#host = host;
    this.#ports = ports;
    this.#socksPort = socksPort;
  }

  static async choose(host: string): Promise<LocalWays> {
    const [http, digest, echo, udp, dns, socks] = [
      ...[await freePort(), await freePort(), await freePort()],
      ...[await freePort(), await freePort(), await freePort()],
    ] as [number, number, number, number, number, number];
    return new LocalWays(host, { http, digest, echo, udp, dns }, socks);
  }

  /** What the agent is started with. */
  get arguments(): string[] {
    const forward = (name: keyof Ports, protocol: string) => [
      "--forward",
      `${this.#at(this.#ports[name])}${protocol}=${SERVICE}:${SERVICE_PORTS[name]}`,
    ];
    return [
      ...[...forward("http", ""), ...forward("digest", ""), ...forward("echo", "")],
      ...[...forward("udp", "/udp"), ...forward("dns", "/udp"), ...forward("dns", "")],
      ...["--socks", this.#at(this.#socksPort)],
    ];
  }

  get forwarded(): LocalWay {
    return {
      curl: (path) => [`http://${this.#at(this.#ports.http)}${path}`],
      tcp: (port) => TcpClient.open(this.#host, this.#ports[port]),
      udp: (port) => UdpClient.open(this.#host, this.#ports[port]),
    };
  }

  get socks(): LocalWay {
    const proxy = { host: this.#host, port: this.#socksPort };
    return {
      curl: (path) => [
        ...["--proxy", `socks5h://${this.#at(this.#socksPort)}`],
        `http://${SERVICE}:${SERVICE_PORTS.http}${path}`,
      ],
      tcp: (port) => socksConnect(proxy, SERVICE, SERVICE_PORTS[port]),
      udp: (port) => socksUdp(proxy, SERVICE, SERVICE_PORTS[port]),
    };
  }

  /** Arguments of dig that ask the resolver through a forwarded port. */
  get dig(): readonly string[] {
    return [`@${this.#host}`, "-p", String(this.#ports.dns)];
  }

  #at(port: number): string {
    return this.#host.includes(":") ? `[${this.#host}]:${port}` : `${this.#host}:${port}`;
  }
}
