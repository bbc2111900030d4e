import { describe, expect, test } from "bun:test";
import { parseSamples } from "../../bench/profile.ts";
import { stageOf } from "../../bench/stages.ts";
import { parseSymbols } from "../../bench/symbols.ts";

const SEGMENTS = `
  Type           Offset   VirtAddr           PhysAddr           FileSiz  MemSiz   Flg Align
  LOAD           0x000000 0x0000000000000000 0x0000000000000000 0x001000 0x001000 R   0x1000
  LOAD           0x001000 0x0000000000002000 0x0000000000002000 0x003000 0x003000 R E 0x1000
`;
const NAMES = `
0000000000002000 T first
0000000000002100 t quiche::Connection<F>::recv
0000000000003000 d data
`;

describe("profile", () => {
  test.each([
    { name: "the first octet of a function", offset: 0x10_00, symbol: "first" },
    { name: "the last octet before the next", offset: 0x10_ff, symbol: "first" },
    {
      name: "a name with blanks and brackets",
      offset: 0x11_00,
      symbol: "quiche::Connection<F>::recv",
    },
    { name: "an octet before all functions", offset: 0x8_00, symbol: undefined },
    { name: "an octet outside of the file", offset: 0x40_00, symbol: undefined },
  ])("names $name", ({ offset, symbol }) => {
    expect(parseSymbols(SEGMENTS, NAMES).at(offset)).toBe(symbol);
  });

  test("gives the data plane's places their names and leaves all others as they are", () => {
    const script = `
     7
\t            1104 [unknown] (/memfd:ztna.node (deleted))
\t           f82ad __read (/usr/lib/libc.so.6)

     8
\tffffffff81d33df7 udp_sendmsg ([kernel.kallsyms])

`;

    const samples = parseSamples(script, parseSymbols(SEGMENTS, NAMES));

    expect(samples).toEqual([
      {
        pid: 7,
        frames: [
          { symbol: "quiche::Connection<F>::recv", module: "/memfd:ztna.node (deleted)" },
          { symbol: "__read", module: "/usr/lib/libc.so.6" },
        ],
      },
      { pid: 8, frames: [{ symbol: "udp_sendmsg", module: "[kernel.kallsyms]" }] },
    ]);
  });

  test.each([
    { name: "a cipher", symbols: "aes_gcm_enc_update_vaes_avx2", stage: "encryption" },
    { name: "QUIC", symbols: "quiche::Connection<F>::recv", stage: "QUIC" },
    { name: "our path selection", symbols: "ztna_dataplane::path::rtt", stage: "paths and checks" },
    { name: "our loop", symbols: "ztna_dataplane::endpoint::plane::turn", stage: "event loop" },
    { name: "a copy", symbols: "__memmove_avx_unaligned_erms", stage: "copying" },
    { name: "what has no name", symbols: "[unknown]", stage: "other native code" },
  ] as const)("counts $name as $stage", ({ symbols, stage }) => {
    expect(stageOf([{ symbol: symbols, module: "/memfd:ztna.node (deleted)" }])).toBe(stage);
  });

  test.each([
    {
      name: "a packet that the sender's call carries into the next host",
      calls: "tcp_v4_rcv process_backlog udp_sendmsg __x64_sys_sendmsg",
      stage: "kernel: delivery to the next host",
    },
    { name: "a send", calls: "ip_output udp_sendmsg __x64_sys_sendmsg", stage: "kernel: UDP send" },
    {
      name: "a read of TUN",
      calls: "tun_do_read tun_chr_read_iter ksys_read",
      stage: "kernel: TUN read",
    },
    { name: "an interrupt", calls: "asm_sysvec", stage: "kernel: other" },
  ] as const)("counts $name as $stage", ({ calls, stage }) => {
    const frames = calls.split(" ").map((symbol) => ({ symbol, module: "[kernel.kallsyms]" }));

    expect(stageOf(frames)).toBe(stage);
  });

  test("JavaScript is what runs outside of the data plane", () => {
    expect(stageOf([{ symbol: "[unknown]", module: "/opt/dist/ztna" }])).toBe("JavaScript");
  });
});
