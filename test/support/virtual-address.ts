/** Where an agent's applications find a service (`docs/protocol.md` §7), as its status says. */
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
    const status = JSON.parse(await must([ZTNA, "status", "--json", "--control-socket", socket]));
    return status.services.find((it: { name: string }) => it.name === service);
  });
}
