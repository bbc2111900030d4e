/**
 * The command table: help, completion and dispatch follow from it.
 *
 * Each command is imported when it runs. Help must come within a tenth of a second, and also where
 * the data plane cannot be loaded.
 */
import type { Command, Flag } from "./command.ts";
import { ROLE_FLAGS, type RoleName } from "./role-flags.ts";

const JSON_FLAG: Flag = { flag: "--json", help: "print JSON for scripts" };
const CONTROL_FLAG: Flag = { flag: "--control-socket <path>", help: "socket of the running agent" };

export const COMMANDS: readonly Command[] = [
  role("relay", "Connect agents and connectors without reading their traffic", [
    "ztna relay --config relay.yaml",
  ]),
  role("connector", "Provide services next to which it runs", [
    "ztna connector --relay relay.example:4433 --service echo-service --backend 127.0.0.1:8080 \\",
    "    --certificate connector.crt --key connector.key --ca ca.crt",
  ]),
  role("agent", "Reach services", [
    "ztna agent --config agent.yaml --forward 8080=echo-service:80",
    "ztna agent --config agent.yaml --socks 127.0.0.1:1080",
    "ztna agent --config agent.yaml --tun ztna0",
  ]),
  {
    name: "pki",
    summary: "Make an authority and certificates, and explain them",
    commands: [
      {
        name: "init",
        summary: "Make an authority: ca.crt and ca.key",
        flags: [
          { flag: "--trust-domain <domain>", help: "whose peers it certifies (ztna.internal)" },
          { flag: "--days <count>", help: "how long it lives (3650)" },
          { flag: "--out <dir>", help: "where to write (pki)" },
          { flag: "--force", help: "replace an existing authority for good" },
        ],
        run: async (it) => (await import("./commands/pki.ts")).initAuthority(it),
      },
      {
        name: "issue",
        summary: "Certify an agent, connector, relay or admin: NAME.crt and NAME.key",
        arguments: ["<role>", "<name>"],
        flags: [
          { flag: "--service <name>", help: "service to use or to provide", repeats: true },
          { flag: "--all-services", help: "every service there is and will be" },
          { flag: "--host <host>", help: "name or address peers dial a relay by", repeats: true },
          { flag: "--days <count>", help: "how long it lives (agent, admin 90; others 397)" },
          { flag: "--out <dir>", help: "where to write (pki)" },
          { flag: "--ca-dir <dir>", help: "where the authority is (the same)" },
          { flag: "--trust-domain <domain>", help: "another one than the authority's" },
          { flag: "--force", help: "replace existing files" },
        ],
        examples: [
          "ztna pki issue relay relay1 --host relay.example --host 192.0.2.1",
          "ztna pki issue connector berlin --service echo-service --service web-app",
          "ztna pki issue agent alice --service echo-service",
        ],
        run: async (it) => (await import("./commands/pki.ts")).issueCertificate(it),
      },
      {
        name: "show",
        summary: "Print what certificates say and whom peers take their holder for",
        arguments: ["<file>"],
        flags: [JSON_FLAG],
        run: async (it) => (await import("./commands/pki.ts")).showCertificates(it),
      },
    ],
  },
  {
    name: "status",
    summary: "Show services, sessions and paths of the running agent",
    flags: [JSON_FLAG, CONTROL_FLAG],
    run: async (it) => (await import("./commands/status.ts")).showStatus(it),
  },
  {
    name: "ping",
    summary: "Measure the way to a service through the running agent",
    arguments: ["<service>"],
    flags: [
      { flag: "-c, --count <count>", help: "how many (4)" },
      { flag: "-i, --interval <seconds>", help: "seconds between two (1)" },
      { flag: "-s, --size <octets>", help: "octets of payload (56)" },
      JSON_FLAG,
      CONTROL_FLAG,
    ],
    run: async (it) => (await import("./commands/ping.ts")).ping(it),
  },
  {
    name: "check-config",
    summary: "Judge a configuration and its certificates without starting anything",
    arguments: ["<role>", "<file>"],
    flags: [{ flag: "--config-only", help: "leave certificates and keys unread" }],
    run: async (it) => (await import("./commands/check-config.ts")).checkConfig(it),
  },
  {
    name: "version",
    summary: "Print the version",
    flags: [JSON_FLAG],
    run: async (it) => (await import("./commands/version.ts")).showVersion(it),
  },
  {
    name: "completion",
    summary: "Print a completion script for bash, zsh or fish",
    arguments: ["<shell>"],
    examples: ["ztna completion bash > /etc/bash_completion.d/ztna"],
    run: async (it) => (await import("./commands/completion.ts")).printCompletion(it, COMMANDS),
  },
];

function role(name: RoleName, summary: string, examples: readonly string[]): Command {
  const { flags, renamedFlags } = ROLE_FLAGS[name];
  return {
    name,
    summary,
    flags: [
      { flag: "--config <file>", help: "configuration, YAML or JSON" },
      { flag: "--print-config", help: "print each value with its origin, and end" },
    ],
    configFlags: flags,
    renamedFlags,
    examples,
    run: async (it) => (await import("./commands/role.ts")).runRole(name, it),
  };
}
