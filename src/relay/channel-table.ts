/**
 * Channels: one for each pair of instances that has a session, whatever the number of services.
 *
 * A channel keeps its ids for life. It is *reserved* from the first offer on and *open* once both
 * clients have named the ids that they listen for. When a leg is replaced, the data plane is told
 * the channel again with the legs in force; when a leg has been lost for too long, it is closed.
 */
import type { Peer } from "./peer-table.ts";
import type { RelayContext } from "./relay-context.ts";

export interface Channel {
  readonly agent: Peer;
  readonly connector: Peer;
  /** Issued here: what comes in from each side. */
  readonly agentRelayId: string;
  readonly connectorRelayId: string;
  /** Issued by the agent. */
  readonly agentClientId: string;
  /** Issued by the connector; `undefined` until it answered an offer. */
  connectorClientId: string | undefined;
  /** Sessions and offers that need it. */
  users: number;
  closed: boolean;
}

export class ChannelTable {
  readonly #context: RelayContext;
  #size = 0;

  constructor(context: RelayContext) {
    this.#context = context;
  }

  get size(): number {
    return this.#size;
  }

  find(agent: Peer, connector: Peer): Channel | undefined {
    return agent.channels.get(connector.key);
  }

  /** Returns the pair's channel with one more user, or `undefined` when a side has too many. */
  reserve(agent: Peer, connector: Peer, agentClientId: string): Channel | undefined {
    const existing = this.find(agent, connector);
    if (existing !== undefined) {
      existing.users++;
      return existing;
    }
    if (!this.#hasRoom(agent) || !this.#hasRoom(connector)) return undefined;

    const channel: Channel = {
      agent,
      connector,
      agentRelayId: this.#context.sources.issueChannelId(),
      connectorRelayId: this.#context.sources.issueChannelId(),
      agentClientId,
      connectorClientId: undefined,
      users: 1,
      closed: false,
    };
    agent.channels.set(connector.key, channel);
    connector.channels.set(agent.key, channel);
    this.#size++;
    return channel;
  }

  /** Puts the channel in force with the id that the connector listens for. */
  open(channel: Channel, connectorClientId: string): void {
    if (channel.connectorClientId === connectorClientId) return;

    channel.connectorClientId = connectorClientId;
    this.#announce(channel);
  }

  /** One user fewer; a channel that nobody uses ends. */
  release(channel: Channel): void {
    channel.users--;
    if (channel.users <= 0) this.#close(channel);
  }

  /** Tells the data plane every channel of a peer whose leg was replaced. */
  reopen(peer: Peer): void {
    for (const channel of peer.channels.values()) this.#announce(channel);
  }

  closeAll(peer: Peer): void {
    for (const channel of [...peer.channels.values()]) this.#close(channel);
  }

  #announce({ agent, connector, ...ids }: Channel): void {
    if (agent.leg === undefined || connector.leg === undefined) return;
    if (ids.connectorClientId === undefined) return;

    this.#context.push({
      type: "open-channel",
      a: {
        leg: agent.leg.connection,
        relayId: ids.agentRelayId,
        clientId: ids.agentClientId,
      },
      b: {
        leg: connector.leg.connection,
        relayId: ids.connectorRelayId,
        clientId: ids.connectorClientId,
      },
      rateBps: this.#context.settings.channelRateBps,
    });
  }

  #close(channel: Channel): void {
    if (channel.closed) return;

    channel.closed = true;
    channel.agent.channels.delete(channel.connector.key);
    channel.connector.channels.delete(channel.agent.key);
    this.#size--;
    // One that was never opened has nobody else to give its ids back.
    const ids =
      channel.connectorClientId === undefined
        ? [channel.agentRelayId, channel.connectorRelayId]
        : [channel.agentRelayId];
    for (const id of ids) this.#context.push({ type: "close-channel", channel: id });
  }

  #hasRoom(peer: Peer): boolean {
    const { channelsPerAgentLeg, channelsPerConnectorLeg } = this.#context.settings.limits;
    const isAgent = peer.proven.identity.role === "agent";
    if (peer.channels.size < (isAgent ? channelsPerAgentLeg : channelsPerConnectorLeg)) return true;

    this.#context.event({
      type: "limit-reached",
      identity: peer.proven.identity.uri,
      limit: "channels",
    });
    return false;
  }
}
