/**
 * A program that owns a packet tunnel and hands its packets to the agent (`docs/packets.md`): a process
 * of its own, so that the tunnel is that of any network namespace.
 *
 *   bun packet-bridge-main.ts DEVICE SOCKET
 *
 * Opens the TUN device, prints `ready` and carries packets both ways until it is killed.
 */
import { dlopen, ptr } from "bun:ffi";
import { openSync, read, writeSync } from "node:fs";
import { connect } from "node:net";

const [device = "", path = ""] = Bun.argv.slice(2);
const PACKET_MAX = 65_535;
/** `linux/if_tun.h`. */
const TUNSETIFF = 0x40_04_54_ca;
const IFF_TUN = 0x00_01;
const IFF_NO_PI = 0x10_00;

const tun = openTun(device);
const socket = connect({ path });
socket.on("data", takeFrames());
socket.on("close", () => process.exit(1));
socket.once("connect", () => {
  process.stdout.write("ready\n");
  readPackets();
});

function openTun(name: string): number {
  const descriptor = openSync("/dev/net/tun", "r+");
  const request = Buffer.alloc(40);
  request.write(name, "latin1");
  request.writeUInt16LE(IFF_TUN | IFF_NO_PI, 16);
  const { symbols } = dlopen("libc.so.6", {
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  });
  if (symbols.ioctl(descriptor, TUNSETIFF, ptr(request)) !== 0) throw new Error(`no ${name}`);
  return descriptor;
}

function readPackets(): void {
  const packet = Buffer.alloc(PACKET_MAX);
  read(tun, packet, 0, PACKET_MAX, null, (error, length) => {
    if (error !== null) throw error;
    const head = Buffer.alloc(2);
    head.writeUInt16BE(length);
    socket.write(Buffer.concat([head, packet.subarray(0, length)]));
    readPackets();
  });
}

function takeFrames(): (chunk: Buffer) => void {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    let start = 0;
    while (rest.length >= start + 2) {
      const end = start + 2 + rest.readUInt16BE(start);
      if (rest.length < end) break;
      writeSync(tun, rest.subarray(start + 2, end));
      start = end;
    }
    rest = rest.subarray(start);
  };
}
