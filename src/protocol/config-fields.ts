/** What the configurations of several roles are made of. The examples in messages are the role's. */
import { z } from "zod";
import { parseHostPort, parseSocketAddress } from "./address.ts";
import { isServiceName } from "./service-name.ts";

/** An own address; port 0 lets the system choose one. */
export function listenAddressField(example: string) {
  return z
    .string()
    .refine(
      (text) => parseSocketAddress(text.replace(/:0$/, ":1")) !== undefined,
      `expected an address and a port, as in ${example}`,
    );
}

export function hostPortField(example: string) {
  return z
    .string()
    .refine(
      (text) => parseHostPort(text) !== undefined,
      `expected a host and a port, as in ${example}`,
    );
}

export const serviceNameField = z
  .string()
  .refine(isServiceName, "expected 1 to 63 lower-case letters, digits and inner hyphens");

/** A relay to dial, with the name that its certificate must have if that is not the host's. */
export function relayField(hostPort: ReturnType<typeof hostPortField>) {
  return z.union([
    hostPort,
    z.strictObject({ address: hostPort, name: z.string().min(1).max(253).optional() }).readonly(),
  ]);
}

/** Metrics and health. */
export function metricsField(
  listenAddress: ReturnType<typeof listenAddressField>,
  listenDefault: string,
) {
  return z
    .strictObject({
      /** `off` serves none. */
      listen: z.union([z.literal("off"), listenAddress]).default(listenDefault),
      /** Names beside addresses and `localhost` that a request may carry in `Host`. */
      allowedHosts: z.array(z.string().min(1)).max(64).default([]),
    })
    .prefault({});
}

export const logLevelField = z.enum(["trace", "debug", "info", "warn", "error"]).default("info");
