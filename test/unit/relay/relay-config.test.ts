import { describe, expect, test } from "bun:test";
import { relayConfigSchema } from "../../../src/relay/relay-config.ts";

const FILES = { certificate: "relay.crt", key: "relay.key", ca: "ca.crt" };

describe("the configuration of a relay", () => {
  test("needs its files and nothing else", () => {
    expect(relayConfigSchema.parse(FILES)).toEqual({
      ...FILES,
      listen: ["0.0.0.0:4433"],
      advertise: [],
      trustDomains: [],
      spiffe: {},
      identities: {},
      policy: { default: "allow", rules: [] },
      revoked: [],
      leaseSeconds: 3600,
      channelRateBps: 0,
      limits: {
        servicesPerConnector: 256,
        servicesPerAgent: 4096,
        sessionsPerAgent: 256,
        channelsPerAgentLeg: 1024,
        channelsPerConnectorLeg: 65_536,
        legsPerIdentity: 64,
        framesPerSecond: 64,
        framesBurst: 256,
        legs: 65_536,
        handshakes: 1024,
        retriesPerSource: 20,
      },
      metrics: { listen: "127.0.0.1:9090", allowedHosts: [] },
      logLevel: "info",
    });
  });

  test.each([
    { name: "a port for the system to choose", more: { listen: ["127.0.0.1:0", "[::1]:0"] } },
    { name: "metrics that are off", more: { metrics: { listen: "off" } } },
    { name: "a rule for everybody", more: { policy: { rules: [{ id: "a", effect: "deny" }] } } },
    { name: "a revoked certificate", more: { revoked: [{ issuer: "300d", serial: "01" }] } },
    { name: "a lowered limit", more: { limits: { servicesPerAgent: 1 } } },
    { name: "the longest lease", more: { leaseSeconds: 86_400 } },
  ])("takes $name", ({ more }) => {
    expect(relayConfigSchema.safeParse({ ...FILES, ...more }).success).toBe(true);
  });

  test.each([
    { name: "an unknown key", more: { listne: [] } },
    { name: "an unknown limit", more: { limits: { sessions: 1 } } },
    { name: "an address without a port", more: { listen: ["0.0.0.0"] } },
    { name: "three addresses", more: { listen: ["0.0.0.0:1", "[::]:1", "0.0.0.0:2"] } },
    { name: "a name without a port", more: { name: "relay.example" } },
    {
      name: "two rules of one id",
      more: {
        policy: {
          rules: [
            { id: "a", effect: "deny" },
            { id: "a", effect: "allow" },
          ],
        },
      },
    },
    {
      name: "a rule of an unknown effect",
      more: { policy: { rules: [{ id: "a", effect: "maybe" }] } },
    },
    {
      name: "a rule for nobody",
      more: { policy: { rules: [{ id: "a", effect: "deny", identities: [] }] } },
    },
    {
      name: "a revocation of two things",
      more: { revoked: [{ spki: "00".repeat(32), issuer: "00", serial: "00" }] },
    },
    {
      name: "more services than a frame's list can have",
      more: { limits: { servicesPerAgent: 4097 } },
    },
    { name: "a lease of a day and a second", more: { leaseSeconds: 86_401 } },
    { name: "a limit of nothing", more: { limits: { sessionsPerAgent: 0 } } },
  ])("refuses $name", ({ more }) => {
    expect(relayConfigSchema.safeParse({ ...FILES, ...more }).success).toBe(false);
  });
});
