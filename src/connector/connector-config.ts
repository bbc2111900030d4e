/**
 * The connector's configuration: every key, its default and its bounds.
 *
 * Services come as a list, or as the short form `service` and `backend` for the one service that most
 * connectors have.
 */
import { z } from "zod";
import { identityConfigFields } from "../policy/identity-config.ts";
import {
  hostPortField,
  listenAddressField,
  logLevelField,
  metricsField,
  relayField,
  serviceNameField,
} from "../protocol/config-fields.ts";
import {
  CHANNELS_PER_CONNECTOR_LEG_MAX,
  PORTS_PER_SERVICE_MAX,
  SERVICES_PER_CONNECTOR_MAX,
  WEIGHT_DEFAULT,
  WEIGHT_MAX,
  WEIGHT_MIN,
} from "../protocol/limits.ts";
import type { RegisteredService } from "../protocol/messages.ts";
import { parseBackend } from "./backend-spec.ts";
import { SERVICES_JSON_BYTES_MAX, servicesBytes } from "./registration.ts";

const listenAddress = listenAddressField("0.0.0.0:4434");

const hostPort = hostPortField("db.internal:5432");

const relay = relayField(hostPort);

const port = z
  .strictObject({
    protocol: z.enum(["tcp", "udp"]).default("tcp"),
    /** What agents ask for. */
    port: z.int().min(1).max(65_535),
    /** Where it is. */
    backend: hostPort,
  })
  .readonly();

const service = z
  .strictObject({
    name: serviceNameField,
    ports: z
      .array(port)
      .min(1)
      .max(PORTS_PER_SERVICE_MAX)
      .refine(
        (ports) => new Set(ports.map((it) => `${it.protocol} ${it.port}`)).size === ports.length,
        "expected each port of a protocol once",
      ),
    /** Share of the sessions among the connectors of a service. */
    weight: z.int().min(WEIGHT_MIN).max(WEIGHT_MAX).default(WEIGHT_DEFAULT),
    /** UDP flows end after this long without a datagram. */
    idleSeconds: z.int().min(1).max(86_400).default(60),
  })
  .readonly();

const backendSpec = z
  .string()
  .refine(
    (text) => parseBackend(text) !== undefined,
    "expected [PORT[/udp]=]HOST:PORT, as in 127.0.0.1:8080 or 53/udp=127.0.0.1:5353",
  );

export const connectorConfigSchema = z
  .strictObject({
    /** At least one; each adds a path to every tunnel. */
    relays: z.array(relay).min(1).max(8),
    /** Addresses of the UDP sockets, at most one a family. */
    listen: z.array(listenAddress).min(1).max(2).default(["0.0.0.0:4434"]),
    /** PEM files. */
    certificate: z.string().min(1),
    key: z.string().min(1),
    ca: z.string().min(1),
    ...identityConfigFields,
    services: z
      .array(service)
      .max(SERVICES_PER_CONNECTOR_MAX)
      .default([])
      .refine(
        (services) => new Set(services.map(({ name }) => name)).size === services.length,
        "expected each service once",
      ),
    /** Short form: the one service that is provided. */
    service: serviceNameField.optional(),
    /** Short form: where that service is. */
    backend: z.union([backendSpec, z.array(backendSpec).min(1)]).optional(),
    health: z
      .strictObject({
        /** Between two attempts to connect to a TCP backend. */
        intervalSeconds: z.number().min(0.1).max(3600).default(5),
        timeoutSeconds: z.number().min(0.1).max(60).default(2),
        /** Between two resolutions of a backend's name. */
        resolveSeconds: z.number().min(0.1).max(86_400).default(30),
      })
      .prefault({}),
    limits: z
      .strictObject({ sessions: z.int().min(1).default(CHANNELS_PER_CONNECTOR_LEG_MAX) })
      .prefault({}),
    metrics: metricsField(listenAddress, "127.0.0.1:9091"),
    logLevel: logLevelField,
  })
  .superRefine((config, context) => {
    const complaint = complaintAboutServices(config);
    if (complaint !== undefined) {
      context.addIssue({ code: "custom", path: [complaint.key], message: complaint.message });
    }
  });

export type ConnectorConfig = z.output<typeof connectorConfigSchema>;

export interface ConfiguredService extends RegisteredService {
  readonly backends: readonly ConfiguredBackend[];
  readonly idleMs: number;
}

export interface ConfiguredBackend {
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  /** "host:port". */
  readonly backend: string;
}

/** Returns the services of both forms. */
export function servicesOf(
  config: Pick<ConnectorConfig, "services" | "service" | "backend">,
): readonly ConfiguredService[] {
  return [...config.services, ...shortForm(config)].map(({ name, ports, weight, idleSeconds }) => ({
    name,
    weight,
    ports: ports.map(({ protocol, port }) => ({ protocol, port })),
    backends: ports,
    idleMs: idleSeconds * 1000,
  }));
}

type Service = z.output<typeof service>;

function shortForm({
  service,
  backend,
}: Pick<ConnectorConfig, "service" | "backend">): readonly Service[] {
  if (service === undefined || backend === undefined) return [];

  const ports = [backend].flat().flatMap((text) => parseBackend(text) ?? []);
  return [{ name: service, ports, weight: WEIGHT_DEFAULT, idleSeconds: 60 }];
}

function complaintAboutServices(
  config: Pick<ConnectorConfig, "services" | "service" | "backend">,
): { readonly key: "services" | "service" | "backend"; readonly message: string } | undefined {
  const { service, backend } = config;
  if ((service === undefined) !== (backend === undefined)) {
    const key = service === undefined ? "service" : "backend";
    return { key, message: `expected ${key} beside the other half of the short form` };
  }
  const services = servicesOf(config);
  if (services.length === 0) {
    return { key: "services", message: "expected a service, or service and backend" };
  }
  if (service !== undefined && config.services.some(({ name }) => name === service)) {
    return { key: "service", message: `expected a service that services does not have` };
  }
  const registered = services.map(({ name, ports, weight }) => ({ name, ports, weight }));
  const bytes = servicesBytes(registered);
  return bytes <= SERVICES_JSON_BYTES_MAX
    ? undefined
    : {
        key: "services",
        message: `expected fewer ports: a registration of ${bytes} octets exceeds ${SERVICES_JSON_BYTES_MAX}`,
      };
}
