/**
 * The flags of the long-running roles, and what the predecessor called them.
 *
 * Plain data, so that help and completion load no role. A test holds each key against the schema of
 * its role.
 */
import type { ConfigFlag } from "./load-config.ts";

export type RoleName = "relay" | "connector" | "agent";

export interface RoleFlags {
  readonly flags: readonly ConfigFlag[];
  /** Flags of the predecessor → what to write. */
  readonly renamedFlags: Readonly<Record<string, string>>;
  /** Keys of the predecessor's JSON → the key here. */
  readonly renamedKeys: Readonly<Record<string, string>>;
}

const COMMON: readonly ConfigFlag[] = [
  { flag: "--certificate <file>", key: "certificate", help: "own certificate chain, PEM" },
  { flag: "--key <file>", key: "key", help: "private key, PEM" },
  { flag: "--ca <file>", key: "ca", help: "authorities to trust, PEM" },
  { flag: "--metrics <address>", key: "metrics.listen", help: "where to serve metrics and health" },
  { flag: "--log-level <level>", key: "logLevel", help: "trace, debug, info, warn or error" },
];

const RELAYS: ConfigFlag = {
  flag: "--relay <host:port>",
  key: "relays",
  help: "relay to connect to",
  repeats: true,
};

const LISTEN: ConfigFlag = {
  flag: "--listen <address>",
  key: "listen",
  help: "UDP address and port, one a family",
  repeats: true,
};

const RENAMED_FLAGS = {
  "--cert": "--certificate",
  "--ca-cert": "--ca",
  "--metrics-port": "--metrics 127.0.0.1:PORT",
  "--external-ip": "nothing: peers learn their addresses from the relay",
};

const RENAMED_KEYS = {
  cert_path: "certificate",
  key_path: "key",
  ca_cert_path: "ca",
  metrics_port: "metrics.listen",
};

export const ROLE_FLAGS: Readonly<Record<RoleName, RoleFlags>> = {
  relay: {
    flags: [
      LISTEN,
      ...COMMON,
      { flag: "--data-dir <dir>", key: "dataDir", help: "where what must last is kept" },
    ],
    renamedFlags: {
      ...RENAMED_FLAGS,
      "--port": "--listen 0.0.0.0:PORT",
      "--bind": "--listen ADDRESS:PORT",
    },
    renamedKeys: { ...RENAMED_KEYS, port: "listen", bind_addr: "listen" },
  },
  connector: {
    flags: [
      RELAYS,
      { flag: "--service <name>", key: "service", help: "the one service to provide" },
      {
        flag: "--backend <spec>",
        key: "backend",
        help: "[PORT[/udp]=]HOST:PORT, where that service is",
        repeats: true,
      },
      LISTEN,
      ...COMMON,
    ],
    renamedFlags: {
      ...RENAMED_FLAGS,
      "--server": "--relay HOST:PORT",
      "--forward": "--backend HOST:PORT",
      "--p2p-listen-port": "--listen 0.0.0.0:PORT",
    },
    renamedKeys: { ...RENAMED_KEYS, intermediate_server: "relays", p2p: "listen" },
  },
  agent: {
    flags: [
      RELAYS,
      {
        flag: "--forward <spec>",
        key: "forward",
        help: "[ADDRESS:]PORT[/udp]=SERVICE:PORT, a local port that leads to a service",
        repeats: true,
      },
      { flag: "--socks <address>", key: "socks", help: "where to serve SOCKS5" },
      { flag: "--tun <name>", key: "tun", help: "TUN device to open" },
      { flag: "--tun-fd <number>", key: "tunFd", help: "inherited descriptor of a TUN device" },
      {
        flag: "--packets <unix:path>",
        key: "packets",
        help: "Unix socket that carries IP packets",
      },
      LISTEN,
      { flag: "--control-socket <path>", key: "controlSocket", help: "where status is answered" },
      { flag: "--state-dir <dir>", key: "stateDir", help: "where what must last is kept" },
      ...COMMON,
    ],
    renamedFlags: { ...RENAMED_FLAGS, "--server": "--relay HOST:PORT" },
    renamedKeys: { ...RENAMED_KEYS, intermediate_server: "relays" },
  },
};
