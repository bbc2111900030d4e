/** `ztna status`: what the running agent reaches, how, and why not. */
import { requestStatus } from "../../agent/control-client.ts";
import type { AgentStatus, RelayStatus, ServiceStatus } from "../../agent/status.ts";
import { hasFlag, type Invocation, textFlag } from "../command.ts";
import { controlSocketOf } from "../control-socket-path.ts";
import { ExitCode } from "../exit.ts";
import { formatBytes, formatDuration, formatPath, formatRtt, formatTable } from "../text.ts";

export async function showStatus(invocation: Invocation): Promise<ExitCode> {
  const { stdout, environment } = invocation.console;
  const socket = await controlSocketOf(textFlag(invocation, "control-socket"), environment);
  const status = await requestStatus(socket);
  stdout.write(hasFlag(invocation, "json") ? `${JSON.stringify(status)}\n` : statusText(status));
  return ExitCode.Ok;
}

export function statusText(status: AgentStatus): string {
  const expires = new Date(status.certificateNotAfter * 1000).toISOString().slice(0, 16);
  const head = [
    ["agent", `${status.identity}, ${status.software}, up ${formatDuration(status.uptimeSeconds)}`],
    ["certificate", `valid until ${expires.replace("T", " ")} UTC`],
    ...(status.tun === undefined ? [] : [["device", `${status.tun}, ${status.ipv4Pool}`]]),
    ...status.relays.map((relay) => ["relay", relayText(relay)]),
  ];
  const lines = head.map(([label = "", text]) => `${label.padEnd(13)}${text}\n`);
  return `${lines.join("")}\n${servicesText(status.services)}`;
}

function relayText({ address, state, observed, error }: RelayStatus): string {
  const detail = observed === undefined ? (error ?? "") : `seen as ${observed}`;
  return detail === "" ? `${address} ${state}` : `${address} ${state}, ${detail}`;
}

function servicesText(services: readonly ServiceStatus[]): string {
  if (services.length === 0) return "no services: nothing is granted, or no relay is connected\n";

  const header = ["SERVICE", "STATE", "PATH", "RTT", "FLOWS", "UP", "DOWN", "ADDRESS"];
  const rows = services.map(({ name, state, path, flows, bytesUp, bytesDown, ipv4, ipv6 }) => [
    name,
    state,
    path === undefined ? "-" : formatPath(path),
    path === undefined ? "-" : formatRtt(path.rttUs),
    String(flows),
    formatBytes(bytesUp),
    formatBytes(bytesDown),
    ipv4 ?? ipv6,
  ]);
  const errors = services.flatMap(({ name, error }) =>
    error === undefined ? [] : [`\n${name}: ${error.code}: ${error.reason}\n`],
  );
  return formatTable([header, ...rows]) + errors.join("");
}
