/** A program that owns a packet tunnel and hands its IPv4 packets to the agent (`docs/packets.md`). */
import { connect, type Socket } from "node:net";
import { eventually } from "./eventually.ts";

const ICMP = 1;
const UDP = 17;
const PROTOCOLS = { icmp: ICMP, udp: UDP } as const;
const IPV4_HEADER = 20;
/** Of ICMP echo and of UDP alike. */
const INNER_HEADER = 8;
const OWN_PORT = 40_000;

export class PacketShim {
  readonly #socket: Socket;
  readonly #own: string;
  readonly #packets: Buffer[] = [];
  #rest = Buffer.alloc(0);

  private constructor(socket: Socket, own: string) {
    this.#socket = socket;
    this.#own = own;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  static attach(path: string, own: string): Promise<PacketShim> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path });
      socket.once("connect", () => resolve(new PacketShim(socket, own)));
      socket.once("error", reject);
    });
  }

  sendEcho(to: string, payload: Uint8Array): void {
    const message = Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 1, 0, 1]), payload]);
    message.writeUInt16BE(checksum(message), 2);
    this.#send(to, ICMP, message);
  }

  sendDatagram(to: string, port: number, payload: Uint8Array): void {
    const header = Buffer.alloc(INNER_HEADER);
    header.writeUInt16BE(OWN_PORT, 0);
    header.writeUInt16BE(port, 2);
    header.writeUInt16BE(INNER_HEADER + payload.length, 4);
    const datagram = Buffer.concat([header, payload]);
    const pseudo = Buffer.concat([
      addressOf(this.#own),
      addressOf(to),
      Buffer.from([0, UDP, 0, 0]),
    ]);
    pseudo.writeUInt16BE(datagram.length, 10);
    datagram.writeUInt16BE(checksum(Buffer.concat([pseudo, datagram])) || 0xff_ff, 6);
    this.#send(to, UDP, datagram);
  }

  /** Returns what the next packet of a protocol from an address carries. */
  async answer(protocol: keyof typeof PROTOCOLS, from: string): Promise<Buffer> {
    const packet = await eventually(`${protocol} from ${from}`, { withinMs: 5000 }, () =>
      this.#packets.find(
        (it) => it[9] === PROTOCOLS[protocol] && it.subarray(12, 16).equals(addressOf(from)),
      ),
    );
    return packet.subarray(IPV4_HEADER + INNER_HEADER);
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(to: string, protocol: number, inner: Buffer): void {
    const header = Buffer.alloc(IPV4_HEADER);
    header[0] = 0x45;
    header.writeUInt16BE(IPV4_HEADER + inner.length, 2);
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    addressOf(this.#own).copy(header, 12);
    addressOf(to).copy(header, 16);
    header.writeUInt16BE(checksum(header), 10);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(header.length + inner.length);
    this.#socket.write(Buffer.concat([length, header, inner]));
  }

  #take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 2 && this.#rest.length >= 2 + this.#rest.readUInt16BE()) {
      const end = 2 + this.#rest.readUInt16BE();
      this.#packets.push(this.#rest.subarray(2, end));
      this.#rest = this.#rest.subarray(end);
    }
  }
}

/** RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) + (bytes[at + 1] ?? 0);
  }
  while (sum > 0xff_ff) sum = (sum & 0xff_ff) + (sum >>> 16);
  return ~sum & 0xff_ff;
}

function addressOf(text: string): Buffer {
  return Buffer.from(text.split(".").map(Number));
}
