/** On which part of the work a sample of a profile fell. */

/** From the innermost function outwards. */
export interface Frame {
  readonly symbol: string;
  /** File or kernel. */
  readonly module: string;
}

/** In the order in which they are printed. */
export const STAGES = [
  "kernel: TUN read",
  "kernel: TUN write",
  "kernel: UDP receive",
  "kernel: UDP send",
  "kernel: delivery to the next host",
  "kernel: TCP of the backend",
  "kernel: waiting and waking",
  "kernel: other",
  "encryption",
  "QUIC",
  "TCP termination",
  "paths and checks",
  "channels",
  "flows and backends",
  "event loop",
  "copying",
  "allocation",
  "other native code",
  "JavaScript",
] as const;

export type Stage = (typeof STAGES)[number];

export function stageOf(frames: readonly Frame[]): Stage {
  const [leaf] = frames;
  if (leaf === undefined) return "other native code";
  if (isKernel(leaf.module)) return kernelStage(frames);

  if (COPYING.test(leaf.symbol)) return "copying";
  if (ALLOCATION.test(leaf.symbol)) return "allocation";
  if (isJavaScript(leaf.module)) return "JavaScript";
  return firstMatch(NATIVE, leaf.symbol) ?? "other native code";
}

/** What the kernel does within a call is known from the functions around it. */
function kernelStage(frames: readonly Frame[]): Stage {
  const kernel = frames.filter((it) => isKernel(it.module)).map((it) => it.symbol);
  return firstMatch(KERNEL, kernel.join(" ")) ?? "kernel: other";
}

function firstMatch(table: readonly (readonly [RegExp, Stage])[], text: string): Stage | undefined {
  return table.find(([pattern]) => pattern.test(text))?.[1];
}

function isKernel(module: string): boolean {
  return module.startsWith("[kernel") || module.startsWith("[guest.kernel");
}

function isJavaScript(module: string): boolean {
  return /\/ztna$|\[JIT\]|^\/\/anon|perf-\d+\.map/.test(module);
}

const COPYING = /mem(cpy|move|set|cmp)/;
const ALLOCATION = /malloc|calloc|realloc|_int_free|cfree|^free$/;

/** The first that matches counts. */
const KERNEL: readonly (readonly [RegExp, Stage])[] = [
  [/\btun_chr_read|\btun_do_read/, "kernel: TUN read"],
  [/\btun_chr_write|\btun_get_user/, "kernel: TUN write"],
  [/\b(net_rx_action|process_backlog)\b/, "kernel: delivery to the next host"],
  [/\budp(v6)?_recvmsg|\b__skb_recv_udp/, "kernel: UDP receive"],
  [/\btcp_|\binet_(stream|csk)|sys_(accept|connect|shutdown)/, "kernel: TCP of the backend"],
  [/sys_(sendmmsg|sendmsg|sendto)/, "kernel: UDP send"],
  [/sys_(recvmmsg|recvmsg|recvfrom)/, "kernel: UDP receive"],
  [/epoll|eventfd|futex|schedule|nanosleep/, "kernel: waiting and waking"],
];

const NATIVE: readonly (readonly [RegExp, Stage])[] = [
  [/aes|gcm|ghash|gf128|chacha|poly1305|EVP_|CRYPTO_|crypto::/i, "encryption"],
  [/smoltcp|termination/, "TCP termination"],
  [/ztna_dataplane::(path|check|stun)/, "paths and checks"],
  [/ztna_dataplane::(channel|rate_limit)/, "channels"],
  [/ztna_dataplane::(flow|backend|endpoint::(flows|flow_life|datagrams))/, "flows and backends"],
  [/ztna_dataplane|quinn_udp|mio::/, "event loop"],
  [/quiche|octets/, "QUIC"],
];
