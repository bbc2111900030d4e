/** An agent machine with everything around it fed by hand: relays, a connector, the data plane. */
import { type AgentInput, type AgentOutput, AgentState } from "../../../src/agent/agent-state.ts";
import { connectorJudge } from "../../../src/leg/judge.ts";
import type { IdentityConfig, LeafInfo } from "../../../src/policy/identity.ts";
import type { LegMessage, SessionOpenOk, TunnelMessage } from "../../../src/protocol/messages.ts";
import {
  ClientBench,
  commands,
  relayLeaf,
  relays,
  SPKI,
  START,
  sources,
  TRUST,
  tunnelMessages,
} from "../../support/client-bench.ts";

export const INSTANCE = "c".repeat(32);
export const CONNECTOR = "ztna://example/connector/edge-1";
export const TUNNEL_HELLO = "a".repeat(64);

export function connectorLeaf(changes: Partial<LeafInfo> = {}): LeafInfo {
  return relayLeaf({
    spkiSha256: SPKI,
    uris: [CONNECTOR],
    dnsNames: ["connector.echo.ztna", "connector.web.ztna"],
    clientAuth: true,
    ...changes,
  });
}

interface AgentBenchOptions {
  readonly relays?: number;
  readonly warm?: readonly string[];
  readonly sessionsMax?: number;
  readonly relayTrust?: () => IdentityConfig;
  readonly connectorTrust?: () => IdentityConfig;
}

export class AgentBench extends ClientBench<AgentInput, AgentOutput, AgentState> {
  constructor(options: AgentBenchOptions = {}) {
    super(
      new AgentState(
        {
          ...sources(0x10_00_01),
          instance: "a".repeat(32),
          relays: relays(options.relays, options.relayTrust),
          judgeConnector: connectorJudge(options.connectorTrust ?? (() => TRUST)),
          servicesMax: 4096,
          sessionsMax: options.sessionsMax ?? 256,
          warm: options.warm ?? [],
        },
        START,
      ),
    );
  }

  start(): AgentOutput[] {
    return this.feed({ type: "start" });
  }

  list(names: readonly string[], relay = 0, generation = 1): AgentOutput[] {
    const services = names.map((name) => ({ name, ports: [] }));
    return this.fromRelay({ type: "services", generation, part: 0, last: true, services }, relay);
  }

  /** A started agent whose relays welcomed it and list `services`. */
  ready(services: readonly string[] = ["echo", "web"], relays = 1): this {
    this.start();
    for (let relay = 0; relay < relays; relay++) {
      this.welcome(relay);
      this.list(services, relay);
    }
    return this;
  }

  /** The latest session-open that was sent to `relay`. */
  asked(relay = 0): Extract<LegMessage, { type: "session-open" }> {
    const found = this.sentTo(relay).findLast((it) => it.type === "session-open");
    if (found?.type !== "session-open") throw new Error("no session-open");
    return found;
  }

  /** Answers the latest session-open. */
  grantSession(relay = 0, changes: Partial<SessionOpenOk> = {}): AgentOutput[] {
    const { request, service, channelId } = this.asked(relay);
    return this.fromRelay(
      {
        type: "session-open-ok",
        request,
        session: sessionOf(service, relay),
        service,
        connector: peer(),
        channelId,
        paths: [{ relay: "relay.example:4433", channel: `000000000000${relay}0f1`, rate: 0 }],
        leaseMs: 3_600_000,
        ...changes,
      },
      relay,
    );
  }

  get tunnel(): number {
    return last(commands(this.outputs, "connect-tunnel"))?.connection ?? -1;
  }

  handshake(leaf: LeafInfo = connectorLeaf(), connection = this.tunnel): AgentOutput[] {
    return this.feed({ type: "handshake", connection, kind: "tunnel", accepted: false, leaf });
  }

  fromConnector(message: TunnelMessage, connection = this.tunnel): AgentOutput[] {
    return this.fromPeer(message, connection);
  }

  get opens(): Extract<TunnelMessage, { type: "open" }>[] {
    return tunnelMessages(this.outputs, this.tunnel).filter((it) => it.type === "open");
  }

  openOk(request = last(this.opens)?.request ?? -1): AgentOutput[] {
    const nonce = TUNNEL_HELLO;
    return this.fromConnector({ type: "open-ok", request, features: [], nonce, ports: [] });
  }

  /** The whole way for one service. */
  granted(service = "echo"): this {
    this.feed({ type: "wanted", service });
    this.grantSession();
    this.handshake();
    this.openOk();
    return this;
  }

  closeTunnel(code: number, connection = this.tunnel): AgentOutput[] {
    const closed = { by: "peer", code, application: true, reason: "" } as const;
    return this.feed({ type: "closed", connection, ...closed });
  }

  flow(change: "opened" | "closed", service = "echo", count = 1): AgentOutput[] {
    const sums = { count, bytesUp: 0, bytesDown: 0 };
    return this.feed({ type: "flow", tunnel: this.tunnel, service, change, ...sums });
  }

  access(service: string) {
    return [...this.state.view.sessions.accesses].find((it) => it.service === service);
  }
}

export function peer(changes: Partial<SessionOpenOk["connector"]> = {}) {
  const observed = "203.0.113.9:4434";
  return { identity: CONNECTOR, spki: SPKI, instance: INSTANCE, observed, ...changes };
}

export function sessionOf(service: string, relay = 0): string {
  return Buffer.from(`${relay}${service}`).toString("hex").padEnd(32, "0").slice(0, 32);
}

function last<T>(items: readonly T[]): T | undefined {
  return items.at(-1);
}
