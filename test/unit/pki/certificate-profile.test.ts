import { describe, expect, test } from "bun:test";
import {
  type CertificateRequest,
  DAYS_BY_ROLE,
  DAYS_MAX,
  profileOf,
  SERVICES_MAX,
} from "../../../src/pki/certificate-profile.ts";

describe("certificate profile", () => {
  test.each([
    {
      name: "an agent dials and may use services",
      request: { role: "agent", services: ["echo", "web-app"] },
      expected: {
        uri: "ztna://corp.example/agent/alice",
        dnsNames: ["agent.echo.ztna", "agent.web-app.ztna"],
        usages: ["clientAuth"],
      },
    },
    {
      name: "a connector dials, accepts and may provide services",
      request: { role: "connector", services: ["echo"] },
      expected: {
        uri: "ztna://corp.example/connector/alice",
        dnsNames: ["connector.echo.ztna"],
        usages: ["clientAuth", "serverAuth"],
      },
    },
    {
      name: "a relay accepts under its hosts",
      request: { role: "relay", hosts: ["Relay.Example", "192.0.2.1", "2001:DB8:0::1"] },
      expected: {
        uri: "ztna://corp.example/relay/alice",
        dnsNames: ["relay.example"],
        ipAddresses: ["192.0.2.1", "2001:db8::1"],
        usages: ["serverAuth"],
      },
    },
    {
      name: "an admin dials",
      request: { role: "admin" },
      expected: {
        uri: "ztna://corp.example/admin/alice",
        dnsNames: [],
        usages: ["clientAuth"],
      },
    },
    {
      name: "all services are one grant",
      request: { role: "agent", services: "all" },
      expected: { dnsNames: ["agent.ztna"] },
    },
    {
      name: "a service named twice is granted once",
      request: { role: "agent", services: ["echo", "echo"] },
      expected: { dnsNames: ["agent.echo.ztna"] },
    },
  ] as const)("$name", ({ request, expected }) => {
    expect(profileOf(requestOf(request))).toMatchObject(expected);
  });

  test.each([
    { name: "an agent without services", request: { role: "agent" } },
    { name: "a connector without services", request: { role: "connector" } },
    { name: "a relay without hosts", request: { role: "relay" } },
    { name: "a relay with services", request: { role: "relay", hosts: ["a"], services: ["b"] } },
    { name: "an admin with every service", request: { role: "admin", services: "all" } },
    { name: "an agent with a host", request: { role: "agent", services: ["a"], hosts: ["b"] } },
    { name: "a name with a slash", request: { role: "admin", name: "a/b" } },
    { name: "an empty name", request: { role: "admin", name: "" } },
    { name: "a name of 129 letters", request: { role: "admin", name: "a".repeat(129) } },
    { name: "a trust domain in capitals", request: { role: "admin", trustDomain: "Corp" } },
    { name: "a service in capitals", request: { role: "agent", services: ["Echo"] } },
    { name: "a wildcard service", request: { role: "agent", services: ["*"] } },
    { name: "a host with a port", request: { role: "relay", hosts: ["relay.example:4433"] } },
    { name: "a wildcard host", request: { role: "relay", hosts: ["*.example"] } },
    { name: "no days", request: { role: "admin", days: 0 } },
    { name: "half a day", request: { role: "admin", days: 0.5 } },
    { name: "one day too many", request: { role: "admin", days: DAYS_MAX + 1 } },
    {
      name: "one service too many",
      request: { role: "agent", services: services(SERVICES_MAX + 1) },
    },
    { name: "one host too many", request: { role: "relay", hosts: services(65) } },
  ] as const)("refuses $name", ({ request }) => {
    expect(() => profileOf(requestOf(request))).toThrow(
      expect.objectContaining({ code: "USAGE", name: "OperatorError" }),
    );
  });

  test("takes every bound at its limit", () => {
    const agent = requestOf({ role: "agent", services: services(SERVICES_MAX), days: DAYS_MAX });
    const relay = requestOf({ role: "relay", hosts: services(64), name: "a".repeat(128) });

    expect(profileOf(agent).dnsNames).toHaveLength(SERVICES_MAX);
    expect(profileOf(relay).dnsNames).toHaveLength(64);
  });

  test("no leaf lives longer than browsers accept of a server", () => {
    expect(Math.max(...Object.values(DAYS_BY_ROLE))).toBe(397);
  });
});

function requestOf(part: Partial<CertificateRequest>): CertificateRequest {
  return {
    role: "agent",
    name: "alice",
    trustDomain: "corp.example",
    services: [],
    hosts: [],
    days: 90,
    ...part,
  };
}

function services(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `s${index}`);
}
