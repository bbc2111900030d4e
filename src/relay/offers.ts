/**
 * Offers of sessions to connectors.
 *
 * - **An offer waits for 1 s.** A connector that left one unanswered gets no other until it answers
 *   a PING, and its late answer is closed: the session went elsewhere. Until it says something again
 *   it is the last to be asked: a PING is answered by its data plane, an offer by the rest of it.
 * - **No identity fills a connector's queue**: whoever has too many unanswered offers there has to
 *   wait for the answers, however many instances it runs and however it words its requests.
 * - **A replaced leg voids what was asked on it**, and it is asked again; a lost leg fails it.
 *
 * Whoever makes an offer hears of its end exactly once, through `settle`.
 */
import type { Deadline } from "../base/deadlines.ts";
import { after, type Instant, seconds } from "../base/time.ts";
import type { FailureCode } from "../protocol/failure-codes.ts";
import { U32_MAX } from "../protocol/limits.ts";
import type { PeerDescription } from "../protocol/messages.ts";
import type { Channel, ChannelTable } from "./channel-table.ts";
import { type Peer, roundTrip } from "./peer-table.ts";
import type { RelayContext } from "./relay-context.ts";
import type { SessionTable } from "./session-table.ts";

/** `docs/protocol.md` §5. */
export const OFFER_WAIT = seconds(1);
/** A PING that `leg-silent` does not deny within this is answered: 4·srtt of a 500 ms path. */
export const PING_WAIT = seconds(2);
/** Given-up offers of one connector whose late answers are recognised. */
export const LATE_OFFERS_MAX = 256;
/**
 * Unanswered offers of one connector: with up to 430 octets each they stay below the 1 MiB of unsent
 * control frames that a connection holds.
 */
export const OFFERS_PER_CONNECTOR_MAX = 2048;
/** Of those, offers for one identity of agents: a fleet that starts at once asks again for the rest. */
export const OFFERS_PER_IDENTITY_MAX = 128;

export interface OfferTerms {
  readonly session: string;
  readonly service: string;
  readonly agent: Peer;
  readonly connector: Peer;
  /** Reserved for this offer; released here unless it is accepted. */
  readonly channel: Channel;
  readonly settle: (outcome: OfferOutcome, now: Instant) => void;
}

export type OfferOutcome =
  | { readonly type: "accepted" }
  | { readonly type: "failed"; readonly code: FailureCode };

export interface Offer {
  readonly terms: OfferTerms;
  readonly request: number;
  readonly deadline: Deadline;
}

export class Offers {
  readonly #context: RelayContext;
  readonly #channels: ChannelTable;
  readonly #sessions: SessionTable;

  constructor(context: RelayContext, channels: ChannelTable, sessions: SessionTable) {
    this.#context = context;
    this.#channels = channels;
    this.#sessions = sessions;
  }

  /** Whether a new opening of this agent may be offered to the connector. */
  hasRoom(connector: Peer, agent: Peer): boolean {
    const ofIdentity = connector.offersByIdentity.get(agent.proven.identity.uri) ?? 0;
    return connector.offers.size < OFFERS_PER_CONNECTOR_MAX && ofIdentity < OFFERS_PER_IDENTITY_MAX;
  }

  make(terms: OfferTerms, now: Instant): void {
    const { connector, agent, channel, session, service } = terms;
    const request = connector.nextRequest;
    connector.nextRequest = request === U32_MAX ? 1 : request + 1;
    const offer: Offer = {
      terms,
      request,
      deadline: this.#context.timers.set(after(now, OFFER_WAIT), {
        type: "offer",
        connector,
        request,
      }),
    };
    connector.offers.set(request, offer);
    countOffer(terms, 1);
    this.#context.send(connector, {
      type: "session-offer",
      request,
      session,
      service,
      agent: describePeer(agent),
      path: {
        relay: this.#context.settings.relay,
        channel: channel.connectorRelayId,
        rate: this.#context.settings.channelRateBps,
        ...roundTrip(agent.leg, connector.leg),
        existing: channel.connectorClientId !== undefined,
      },
      leaseMs: this.#sessions.leaseMs(agent, connector, now),
    });
  }

  handleOk(connector: Peer, request: number, channelId: string, now: Instant): void {
    const offer = this.#take(connector, request);
    if (offer === undefined) {
      this.#closeLate(connector, request);
    } else if (offer.terms.channel.closed) {
      this.#order(connector, offer.terms.session, "the agent is gone");
      offer.terms.settle({ type: "failed", code: "no-connector" }, now);
    } else {
      this.#channels.open(offer.terms.channel, channelId);
      offer.terms.settle({ type: "accepted" }, now);
    }
  }

  handleFailed(connector: Peer, request: number, code: FailureCode, now: Instant): void {
    connector.lateOffers.delete(request);
    const offer = this.#take(connector, request);
    if (offer !== undefined) this.#fail(offer, code, now);
  }

  handleTimeout(connector: Peer, request: number, now: Instant): void {
    const offer = this.#take(connector, request);
    if (offer === undefined) return;

    connector.isMute = true;
    this.#rememberLate(connector, request, offer.terms.session);
    this.#context.event({ type: "offer-unanswered", identity: connector.proven.identity.uri });
    this.#ping(connector, now);
    this.#fail(offer, "no-connector", now);
  }

  /** Nothing denied that the PING was answered: offers may go there again. Else asks once more. */
  handlePingTimeout(connector: Peer, now: Instant): void {
    const wasSilent = connector.stall?.silent === true;
    connector.stall = undefined;
    if (wasSilent && connector.leg !== undefined) this.#ping(connector, now);
  }

  handleSilent(connector: Peer): void {
    if (connector.stall !== undefined) connector.stall.silent = true;
  }

  /** Whatever it says, it is there. */
  handleHeard(connector: Peer): void {
    connector.isMute = false;
  }

  handleLegReplaced(connector: Peer, now: Instant): void {
    this.handleHeard(connector);
    this.#clearStall(connector);
    for (const { request } of [...connector.offers.values()]) {
      const offer = this.#take(connector, request);
      if (offer !== undefined) this.make(offer.terms, now);
    }
  }

  handleLegGone(connector: Peer, now: Instant): void {
    this.#clearStall(connector);
    for (const { request } of [...connector.offers.values()]) {
      const offer = this.#take(connector, request);
      if (offer !== undefined) this.#fail(offer, "no-connector", now);
    }
  }

  #take(connector: Peer, request: number): Offer | undefined {
    const offer = connector.offers.get(request);
    if (offer === undefined) return undefined;

    connector.offers.delete(request);
    countOffer(offer.terms, -1);
    this.#context.timers.cancel(offer.deadline);
    return offer;
  }

  #fail({ terms }: Offer, code: FailureCode, now: Instant): void {
    this.#channels.release(terms.channel);
    terms.settle({ type: "failed", code }, now);
  }

  #ping(connector: Peer, now: Instant): void {
    if (connector.leg === undefined || connector.stall !== undefined) return;

    this.#context.push({ type: "ping-leg", connection: connector.leg.connection });
    const deadline = this.#context.timers.set(after(now, PING_WAIT), {
      type: "ping",
      peer: connector,
    });
    connector.stall = { deadline, silent: false };
  }

  #clearStall(connector: Peer): void {
    this.#context.timers.cancel(connector.stall?.deadline);
    connector.stall = undefined;
  }

  #rememberLate(connector: Peer, request: number, session: string): void {
    connector.lateOffers.set(request, session);
    if (connector.lateOffers.size <= LATE_OFFERS_MAX) return;
    for (const oldest of connector.lateOffers.keys()) {
      connector.lateOffers.delete(oldest);
      return;
    }
  }

  #closeLate(connector: Peer, request: number): void {
    const session = connector.lateOffers.get(request);
    if (session === undefined) return;

    connector.lateOffers.delete(request);
    // A session that was held before may have come into force by another offer.
    if (this.#sessions.get(session)?.connector === connector) return;
    this.#order(connector, session, "answered too late");
  }

  #order(connector: Peer, session: string, reason: string): void {
    this.#context.send(connector, { type: "session-close", session, code: "NO_ERROR", reason });
  }
}

/** Says who a peer is, to the other peer of a session. */
export function describePeer({ proven, instance, remote }: Peer): PeerDescription {
  return { identity: proven.identity.uri, spki: proven.spki, instance, observed: remote };
}

function countOffer({ connector, agent }: OfferTerms, by: 1 | -1): void {
  const { uri } = agent.proven.identity;
  const count = (connector.offersByIdentity.get(uri) ?? 0) + by;
  if (count === 0) connector.offersByIdentity.delete(uri);
  else connector.offersByIdentity.set(uri, count);
}
