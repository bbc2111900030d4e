import { describe, expect, test } from "bun:test";
import { parseBackend } from "../../../src/connector/backend-spec.ts";
import { connectorConfigSchema, servicesOf } from "../../../src/connector/connector-config.ts";
import { registerRequest, SERVICES_JSON_BYTES_MAX } from "../../../src/connector/registration.ts";
import { encodeControl } from "../../../src/protocol/control-codec.ts";
import { CONTROL_FRAME_BYTES_MAX } from "../../../src/protocol/limits.ts";

const LEAST = { relays: ["relay.example:4433"], certificate: "a", key: "b", ca: "c" };
const ECHO = { name: "echo", ports: [{ port: 80, backend: "127.0.0.1:8080" }] };

describe("the short form of a backend", () => {
  test.each([
    {
      text: "127.0.0.1:8080",
      ports: [
        { protocol: "tcp", port: 8080, backend: "127.0.0.1:8080" },
        { protocol: "tcp", port: 80, backend: "127.0.0.1:8080" },
      ],
    },
    { text: "web:80", ports: [{ protocol: "tcp", port: 80, backend: "web:80" }] },
    { text: "443=web:8443", ports: [{ protocol: "tcp", port: 443, backend: "web:8443" }] },
    { text: "53/udp=[::1]:5353", ports: [{ protocol: "udp", port: 53, backend: "[::1]:5353" }] },
  ] as const)("reads $text", ({ text, ports }) => {
    expect(parseBackend(text)).toEqual(ports as never);
  });

  test.each(["web", "web:0", "0=web:80", "65536=web:80", "53/icmp=web:53", "=web:80", "a=b:80"])(
    "refuses %p",
    (text) => {
      expect(parseBackend(text)).toBeUndefined();
    },
  );
});

describe("configuration of a connector", () => {
  test("takes one service in its short form", () => {
    const config = connectorConfigSchema.parse({
      ...LEAST,
      ...{ service: "echo-service", backend: "127.0.0.1:8080" },
    });

    expect(servicesOf(config)).toMatchObject([
      {
        ...{ name: "echo-service", weight: 100, idleMs: 60_000 },
        ports: [
          { protocol: "tcp", port: 8080 },
          { protocol: "tcp", port: 80 },
        ],
      },
    ]);
  });

  test("takes a list with its own defaults", () => {
    const config = connectorConfigSchema.parse({ ...LEAST, services: [ECHO] });

    expect(servicesOf(config)).toEqual([
      {
        ...{ name: "echo", weight: 100, idleMs: 60_000 },
        ports: [{ protocol: "tcp", port: 80 }],
        backends: [{ protocol: "tcp", port: 80, backend: "127.0.0.1:8080" }],
      },
    ]);
  });

  test.each([
    { name: "no service at all", change: {} },
    { name: "a service without a backend", change: { service: "echo" } },
    { name: "a backend without a service", change: { backend: "127.0.0.1:80" } },
    { name: "a service twice", change: { services: [ECHO, ECHO] } },
    {
      name: "a service in both forms",
      change: { services: [ECHO], service: "echo", backend: "127.0.0.1:80" },
    },
    { name: "a port twice", change: { services: [{ ...ECHO, ports: [onePort(), onePort()] }] } },
    { name: "a service without ports", change: { services: [{ name: "echo", ports: [] }] } },
    { name: "a service's name in capitals", change: { services: [{ ...ECHO, name: "Echo" }] } },
    { name: "a weight of nothing", change: { services: [{ ...ECHO, weight: 0 }] } },
    { name: "a weight beyond its most", change: { services: [{ ...ECHO, weight: 1001 }] } },
    { name: "more services than the protocol allows", change: { services: many(257, 1) } },
    { name: "more ports than the protocol allows", change: { services: many(1, 65) } },
    { name: "a registration beyond a frame", change: { services: many(256, 10) } },
  ])("refuses $name", ({ change }) => {
    expect(connectorConfigSchema.safeParse({ ...LEAST, ...change }).success).toBe(false);
  });

  test.each([
    { name: "as many services as the protocol allows", services: many(256, 1) },
    { name: "as many ports as the protocol allows", services: many(1, 64) },
  ])("takes $name", ({ services }) => {
    expect(connectorConfigSchema.safeParse({ ...LEAST, services }).success).toBe(true);
  });
});

describe("a registration", () => {
  test("fits into a frame with the largest list of services and as many sessions as go in", () => {
    const services = Array.from({ length: 256 }, (_, index) => ({
      name: `service-${index}`,
      ports: Array.from(
        { length: 6 },
        (_, port) => ({ protocol: "tcp", port: 60_000 + port }) as const,
      ),
      weight: 100,
    }));
    expect(JSON.stringify(services).length).toBeLessThan(SERVICES_JSON_BYTES_MAX);
    const held = Array.from({ length: 2000 }, (_, index) => index.toString(16).padStart(32, "0"));

    const request = registerRequest(services, held, 4_294_967_295);

    const frame = encodeControl({ ...request, request: 4_294_967_295 });
    expect(frame.length).toBeLessThanOrEqual(CONTROL_FRAME_BYTES_MAX);
    expect(request.sessions.length).toBeGreaterThan(0);
  });

  test("names no more sessions than the protocol allows", () => {
    const held = Array.from({ length: 1025 }, (_, index) => index.toString(16).padStart(32, "0"));

    expect(registerRequest([], held, 0).sessions).toEqual(held.slice(0, 1024));
    expect(registerRequest([], held.slice(0, 1024), 0).sessions).toHaveLength(1024);
  });
});

function onePort() {
  return { port: 80, backend: "127.0.0.1:8080" };
}

function many(services: number, ports: number) {
  return Array.from({ length: services }, (_, index) => ({
    name: `service-${index}`,
    ports: Array.from({ length: ports }, (_, port) => ({
      ...{ port: 10_000 + port, backend: "127.0.0.1:8080" },
    })),
  }));
}
