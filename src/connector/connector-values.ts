/** What the connector's machine is made with, takes, gives and shows. */
import type { Instant } from "../base/time.ts";
import type {
  ClosedEvent,
  ConnectionHandle,
  ControlEvent,
  EndpointCommand,
  FlowEvent,
  HandshakeEvent,
  LegSilentEvent,
  RandomHex,
} from "../leg/endpoint-port.ts";
import type { JudgePeer } from "../leg/judge.ts";
import type { ConfiguredRelay, RelaySlot } from "../leg/relay-legs.ts";
import type { RegisteredService } from "../protocol/messages.ts";
import type { AccessTable } from "./access-table.ts";
import type { ConnectorEvent } from "./connector-event.ts";
import type { Revocation } from "./revocation-list.ts";

export interface ConnectorStateOptions {
  readonly instance: string;
  readonly software: string;
  readonly relays: readonly ConfiguredRelay[];
  readonly services: readonly RegisteredService[];
  readonly judgeAgent: JudgePeer;
  readonly issueConnection: () => ConnectionHandle;
  readonly issueChannelId: () => string;
  readonly randomHex: RandomHex;
  readonly random: () => number;
  readonly sessionsMax: number;
}

export type ConnectorInput =
  | { readonly type: "start" }
  /** The services that are provided from here on. */
  | { readonly type: "services"; readonly services: readonly RegisteredService[] }
  /** The judges have changed: whoever is connected is judged again. */
  | { readonly type: "identities" }
  | HandshakeEvent
  | ControlEvent
  | ClosedEvent
  | LegSilentEvent
  | FlowEvent;

export type ConnectorOutput =
  | { readonly type: "command"; readonly command: EndpointCommand }
  | {
      readonly type: "dial";
      readonly relay: number;
      readonly connection: ConnectionHandle;
      readonly attempt: number;
    }
  /** There are other revocations to refuse handshakes for: {@link ConnectorView.revocations}. */
  | { readonly type: "revocations" }
  | { readonly type: "event"; readonly event: ConnectorEvent };

export interface ConnectorView {
  readonly relays: readonly Readonly<ConnectorRelaySlot>[];
  readonly access: Pick<AccessTable, "sessions" | "pairOf">;
  /** All keys and certificates that handshakes are refused for; a copy. */
  readonly revocations: readonly Revocation[];
}

export interface ConnectorRelaySlot extends RelaySlot {
  /** The registration under way. */
  registering: number | undefined;
  registerAt: Instant | undefined;
  /** Services that the relay took, while its leg lasts. */
  accepted: readonly string[];
}
