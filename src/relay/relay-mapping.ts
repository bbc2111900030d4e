/** Events of the data plane as inputs of the relay's machine, its outputs as commands. */
import type { Instant } from "../base/time.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import { encodeControl } from "../protocol/control-codec.ts";
import type {
  ClosedEvent,
  Command,
  EndpointEvent,
  Revocation as TlsRevocation,
} from "../transport/endpoint.ts";
import type { HowClosed, RelayInput, RelayOutput, Revocation } from "./relay-values.ts";

/** Returns the input that an event is, or `undefined` when the machine has no part in it. */
export function inputOf(
  event: EndpointEvent,
  instantOf: (notAfter: number) => Instant,
): RelayInput | undefined {
  switch (event.type) {
    case "handshake": {
      const { connection, remote, leaf, kind } = event;
      if (kind !== "leg" || remote === undefined) return undefined;
      return {
        type: "handshake",
        connection,
        remote,
        leaf,
        expiresAt: instantOf(leaf.notAfter),
      };
    }
    case "control": {
      const { connection, frame, rttUs } = event;
      return { type: "frame", connection, frame, rttUs };
    }
    case "closed": {
      const { connection, reason: detail } = event;
      const how = howClosed(event);
      return { type: "closed", connection, how, ...(how === "violation" ? { detail } : {}) };
    }
    case "leg-silent":
      return { type: "leg-silent", connection: event.connection };
    default:
      return undefined;
  }
}

export function commandOf(
  output: Exclude<RelayOutput, { readonly type: "event" | "remember-revocation" }>,
): Command {
  switch (output.type) {
    case "close-connection":
      return { ...output, code: CloseCode[output.code] };
    case "send":
      return {
        type: "send-control",
        connection: output.connection,
        frame: encodeControl(output.message),
      };
    case "admit":
    case "ping-leg":
    case "open-channel":
    case "move-channels":
    case "close-channel":
      return output;
  }
}

export function revocationOf({ spki, issuer = "", serial = "" }: Revocation): TlsRevocation {
  return spki === undefined
    ? { type: "certificate", issuer, serial }
    : { type: "spki", spkiSha256: spki };
}

/** A peer that says goodbye does not come back; whatever else ended the connection, it may. */
function howClosed({ by, application, code }: ClosedEvent): HowClosed {
  if (!application) return "lost";
  if (by === "local") return HOW_CLOSED_HERE.get(code) ?? "lost";

  const isGoodbye = code === CloseCode.NO_ERROR || code === CloseCode.SHUTTING_DOWN;
  return by === "peer" && isGoodbye ? "goodbye" : "lost";
}

/** What the data plane decides by itself. */
const HOW_CLOSED_HERE: ReadonlyMap<number, HowClosed> = new Map([
  [CloseCode.REVOKED, "revoked"],
  [CloseCode.PROTOCOL_VIOLATION, "violation"],
]);
