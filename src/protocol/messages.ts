/**
 * The control protocol as values: every message of a leg and of a tunnel by its name.
 *
 * The types are those of the schemas in `leg-messages.ts` and `tunnel-messages.ts`, so a message
 * that type-checks is one that the other side reads. `control-codec.ts` turns them into octets.
 */
import type { z } from "zod";
import type { servicePorts } from "./fields.ts";
import type { LEG_SCHEMAS } from "./leg-messages.ts";
import type { TUNNEL_SCHEMAS } from "./tunnel-messages.ts";

type LegTypes = { [Type in keyof typeof LEG_SCHEMAS]: z.output<(typeof LEG_SCHEMAS)[Type]> };
type TunnelTypes = {
  [Type in keyof typeof TUNNEL_SCHEMAS]: z.output<(typeof TUNNEL_SCHEMAS)[Type]>;
};

export type LegMessage = LegTypes[keyof LegTypes];
export type TunnelMessage = TunnelTypes[keyof TunnelTypes];

/** One kind of message, by its `type`: `Leg<"session-open">`. */
export type Leg<Type extends LegMessage["type"]> = LegTypes[Type];
export type Tunnel<Type extends TunnelMessage["type"]> = TunnelTypes[Type];

export type Hello = Leg<"hello">;
export type Welcome = Leg<"welcome">;
export type Observed = Leg<"observed">;
export type Register = Leg<"register">;
export type RegisterOk = Leg<"register-ok">;
export type Services = Leg<"services">;
export type SessionOpen = Leg<"session-open">;
export type SessionOpenOk = Leg<"session-open-ok">;
export type SessionOffer = Leg<"session-offer">;
export type SessionOfferOk = Leg<"session-offer-ok">;
export type SessionRenew = Leg<"session-renew">;
export type SessionClose = Leg<"session-close">;
export type SessionClosed = Leg<"session-closed">;
export type Revoked = Leg<"revoked">;
export type Reauthenticate = Leg<"reauthenticate">;
export type ReauthenticateOk = Leg<"reauthenticate-ok">;
export type Drain = Leg<"drain">;
export type Failed = Leg<"failed">;
export type Open = Tunnel<"open">;
export type OpenOk = Tunnel<"open-ok">;
export type Candidates = Tunnel<"candidates">;
export type Spray = Tunnel<"spray">;
export type SprayOk = Tunnel<"spray-ok">;
export type CloseService = Tunnel<"close-service">;

/** Who a peer is, by what the relay saw of it. */
export type PeerDescription = SessionOpenOk["connector"];
export type ServicePort = z.output<typeof servicePorts>[number];
/** A service as an agent is told of it. */
export type OfferedService = NonNullable<Services["services"]>[number];
/** A service as a connector registers it. */
export type RegisteredService = Register["services"][number];

/** A frame that is well-formed and yet no message of this version. */
export type Oddity =
  /** Answer `failed unsupported`. */
  | { readonly type: "unknown-request"; readonly request: number; readonly name: string }
  /** A request of ours with a field that has no meaning: answer `failed invalid`. */
  | {
      readonly type: "invalid-request";
      readonly request: number;
      readonly name: string;
      readonly detail: string;
    }
  /** A notice or an answer of a later version: ignored. */
  | { readonly type: "ignored"; readonly name: string };

export type DecodedLegMessage = LegMessage | Oddity;
export type DecodedTunnelMessage = TunnelMessage | Oddity;
