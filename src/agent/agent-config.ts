/**
 * The agent's configuration: every key, its default and its bounds.
 *
 * How applications reach services is chosen by what is configured, in any combination: a TUN device,
 * an inherited one, packets over a Unix socket, local ports, SOCKS5. An agent with none of them still
 * answers `status` and `ping`.
 */
import { isIP } from "node:net";
import { z } from "zod";
import { identityConfigFields } from "../policy/identity-config.ts";
import { formatIp, parseIp } from "../protocol/address.ts";
import {
  hostPortField,
  listenAddressField,
  logLevelField,
  metricsField,
  relayField,
  serviceNameField,
} from "../protocol/config-fields.ts";
import { SERVICES_PER_AGENT_MAX, SESSIONS_PER_AGENT_MAX } from "../protocol/limits.ts";
import { parseForward } from "./forward-spec.ts";
import { parseIpv4, parseIpv4Network } from "./ipv4-network.ts";
import { IPV4_POOL_DEFAULT } from "./service-map.ts";

const listenAddress = listenAddressField("127.0.0.1:1080");

const hostPort = hostPortField("relay.example:4433");

const relay = relayField(hostPort);

/** A pool needs room for the device's own address, and 65,536 addresses are enough. */
const POOL_PREFIX_MIN = 12;
const POOL_PREFIX_MAX = 29;

const ipv4Pool = z.string().refine((text) => {
  const pool = parseIpv4Network(text);
  return pool !== undefined && pool.prefix >= POOL_PREFIX_MIN && pool.prefix <= POOL_PREFIX_MAX;
}, "expected an IPv4 network of /12 to /29, as in 10.100.0.0/16");

const pin = z
  .strictObject({
    ipv4: z
      .string()
      .refine((text) => parseIpv4(text) !== undefined, "expected an IPv4 address")
      .optional(),
    ipv6: z
      .string()
      .refine((text) => isIP(text) === 6, "expected an IPv6 address")
      .optional(),
  })
  .readonly();

export const agentConfigSchema = z
  .strictObject({
    /** In order of preference; each adds a path to every tunnel. */
    relays: z.array(relay).min(1).max(8),
    /** Addresses of the UDP sockets, at most one a family. */
    listen: z.array(listenAddress).min(1).max(2).default(["0.0.0.0:0"]),
    /** PEM files. */
    certificate: z.string().min(1),
    key: z.string().min(1),
    ca: z.string().min(1),
    ...identityConfigFields,
    /** TUN device to open; the name may end in `%d`. */
    tun: z
      .string()
      .regex(/^[a-zA-Z0-9._%-]{1,15}$/, "expected a device name of 1 to 15 characters")
      .optional(),
    /** Inherited descriptor of a TUN device that somebody else configures. */
    tunFd: z.int().min(3).max(1_048_575).optional(),
    /** Unix socket over which a PacketTunnel shim sends IP packets. */
    packets: z
      .string()
      .regex(/^unix:.{1,100}$/, "expected unix:PATH")
      .optional(),
    /** Largest IP packet of the device or shim. IPv6 needs 1,280 (RFC 8200 §5). */
    mtu: z.int().min(1280).max(65_535).default(1280),
    forward: z
      .array(
        z
          .string()
          .refine(
            (text) => parseForward(text) !== undefined,
            "expected [ADDRESS:]PORT[/udp]=SERVICE:PORT, as in 8080=web-app:80",
          ),
      )
      .max(1024)
      .default([]),
    socks: listenAddress.optional(),
    /** Virtual addresses of services; moved as a whole when the host uses it for something else. */
    ipv4Pool: ipv4Pool.default(IPV4_POOL_DEFAULT),
    /** Service → the virtual addresses that it always has. */
    pins: z.record(serviceNameField, pin).default({}),
    /** Services whose tunnels are opened before anyone asks, beside those used last. */
    warm: z.array(serviceNameField).max(16).default([]),
    controlSocket: z.string().min(1).max(100).optional(),
    stateDir: z.string().min(1).optional(),
    limits: z
      .strictObject({
        services: z.int().min(1).max(SERVICES_PER_AGENT_MAX).default(SERVICES_PER_AGENT_MAX),
        sessions: z.int().min(1).max(SESSIONS_PER_AGENT_MAX).default(SESSIONS_PER_AGENT_MAX),
      })
      .prefault({}),
    metrics: metricsField(listenAddress, "127.0.0.1:9092"),
    logLevel: logLevelField,
  })
  .superRefine(({ pins }, context) => {
    const [address] = pinnedTwice(pins);
    if (address === undefined) return;
    const message = `expected an address of its own for each service, ${address} stands twice`;
    context.addIssue({ code: "custom", path: ["pins"], message });
  })
  .superRefine(({ tun, tunFd, packets }, context) => {
    const given = [tun, tunFd, packets].filter((it) => it !== undefined).length;
    if (given <= 1) return;
    const message = "expected one source of packets: tun, tunFd or packets";
    context.addIssue({ code: "custom", path: ["tun"], message });
  });

export type AgentConfig = z.output<typeof agentConfigSchema>;

/** Two services with one address would be one service to whoever connects. */
function pinnedTwice(pins: Readonly<Record<string, z.output<typeof pin>>>): string[] {
  const addresses = Object.values(pins)
    .flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6])
    .flatMap((text) => (text === undefined ? [] : (parseIp(text) ?? [])))
    .map(formatIp);
  return addresses.filter((address, index) => addresses.indexOf(address) < index);
}
