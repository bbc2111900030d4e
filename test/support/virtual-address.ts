/** Where an agent's applications find a service (`docs/protocol.md` §7), as its status says. */
import type { AgentStatus } from "../../src/agent/status.ts";
import type { Deployment, Role } from "./deployment.ts";
import { ZTNA } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import { must } from "./process.ts";

export interface VirtualAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

export function virtualAddresses(
  deployment: Deployment,
  agent: Role,
  service: string,
): Promise<VirtualAddresses> {
  const socket = deployment.file(`${agent.spec.name}.sock`);
  return eventually(`${service} has addresses`, { withinMs: 5000 }, async () => {
    const text = await must([ZTNA, "status", "--json", "--control-socket", socket]);
    const status = JSON.parse(text) as AgentStatus;
    const { ipv4, ipv6 } = status.services.find((it) => it.name === service) ?? {};
    return ipv4 === undefined || ipv6 === undefined ? undefined : { ipv4, ipv6 };
  });
}
