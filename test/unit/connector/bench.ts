/** A connector machine with everything around it fed by hand: relays, agents, the data plane. */
import { ConnectorState } from "../../../src/connector/connector-state.ts";
import type { ConnectorInput, ConnectorOutput } from "../../../src/connector/connector-values.ts";
import { agentJudge } from "../../../src/leg/judge.ts";
import type { IdentityConfig, LeafInfo } from "../../../src/policy/identity.ts";
import type {
  Register,
  RegisterOk,
  SessionOffer,
  TunnelMessage,
} from "../../../src/protocol/messages.ts";
import {
  ClientBench,
  commands,
  relayLeaf,
  relays,
  SPKI,
  START,
  sources,
  TRUST,
} from "../../support/client-bench.ts";

export const ALICE = "ztna://example/agent/alice";

export function leaf(changes: Partial<LeafInfo> = {}): LeafInfo {
  return relayLeaf({
    ...{ spkiSha256: SPKI, uris: [ALICE], dnsNames: ["agent.echo.ztna"] },
    ...{ clientAuth: true, serverAuth: false, ...changes },
  });
}

export const SERVICES = ["echo", "web"].map((name) => ({
  name,
  ports: [{ protocol: "tcp", port: 80 } as const],
  weight: 100,
}));

export class ConnectorBench extends ClientBench<ConnectorInput, ConnectorOutput, ConnectorState> {
  #requests = 0;

  constructor(
    options: { relays?: number; sessionsMax?: number; agentTrust?: () => IdentityConfig } = {},
  ) {
    super(
      new ConnectorState(
        {
          ...sources(0x20_00_01),
          instance: "c".repeat(32),
          relays: relays(options.relays),
          services: SERVICES,
          judgeAgent: agentJudge(options.agentTrust ?? (() => TRUST)),
          sessionsMax: options.sessionsMax ?? 65_536,
        },
        START,
      ),
    );
  }

  /** A started connector that its relays welcomed and registered. */
  ready(relays = 1): this {
    this.feed({ type: "start" });
    for (let relay = 0; relay < relays; relay++) {
      this.welcome(relay);
      this.registerOk(relay);
    }
    return this;
  }

  registered(relay = 0): Register {
    const found = this.sentTo(relay).findLast((it) => it.type === "register");
    if (found?.type !== "register") throw new Error("no register");
    return found;
  }

  registerOk(relay = 0, changes: Partial<RegisterOk> = {}): ConnectorOutput[] {
    const { request, services } = this.registered(relay);
    const accepted = services.map(({ name }) => name);
    const answer = { request, accepted, rejected: [], close: [], revoked: [], ...changes };
    return this.fromRelay({ type: "register-ok", ...answer }, relay);
  }

  offer(changes: Partial<SessionOffer> = {}, relay = 0): ConnectorOutput[] {
    this.#requests += 1;
    const offer: SessionOffer = {
      type: "session-offer",
      request: this.#requests,
      session: "0".repeat(31) + relay,
      service: "echo",
      agent: agent(),
      path: { relay: "relay.example:4433", channel: "00000000000000f1", rate: 0, existing: false },
      leaseMs: 3_600_000,
      ...changes,
    };
    return this.fromRelay(offer, relay);
  }

  /** The number of the agent's pair, from its path. */
  get pair(): number {
    return commands(this.outputs, "open-relayed-path").at(-1)?.pair ?? -1;
  }

  tunnel(changes: Partial<LeafInfo> = {}, connection = 1001): ConnectorOutput[] {
    const { pair } = this;
    const handshake = { connection, kind: "tunnel", accepted: true, pair } as const;
    return this.feed({ type: "handshake", ...handshake, leaf: leaf(changes) });
  }

  fromAgent(message: TunnelMessage, connection = 1001): ConnectorOutput[] {
    return this.fromPeer(message, connection);
  }

  open(service = "echo", connection = 1001, session = "0".repeat(32)): ConnectorOutput[] {
    const nonce = "a".repeat(64);
    const request = 1;
    return this.fromAgent(
      { type: "open", request, service, session, features: [], nonce },
      connection,
    );
  }

  /** An agent with a session, a tunnel and the service granted. */
  served(): this {
    this.offer();
    this.tunnel();
    this.open();
    return this;
  }
}

export function agent(changes: Partial<SessionOffer["agent"]> = {}): SessionOffer["agent"] {
  const observed = "203.0.113.9:5000";
  return { identity: ALICE, spki: SPKI, instance: "a".repeat(32), observed, ...changes };
}
