/** What the agent holds for one service: the sessions, by tunnel and relay, and its last failure. */
import { after, type Duration, type Instant, ms, seconds } from "../base/time.ts";
import { UNPROVEN_CODES } from "./access-failure.ts";
import type { AccessFailure, Pair } from "./tunnel-report.ts";

export interface Access {
  readonly service: string;
  /** Takes new flows. */
  bond: Bond | undefined;
  /** On tunnels that fell silent, or did once and were replaced: serve the flows that they have. */
  readonly standby: Bond[];
  /** The session-open under way that will make a bond. */
  ask: { readonly relay: number; readonly request: number } | undefined;
  /** Relays that answered no in this round. */
  readonly asked: Set<number>;
  /** Flows wait for this service until then. */
  wantedUntil: Instant | undefined;
  failures: number;
  failedAt: Instant | undefined;
  lastFailure: AccessFailure | undefined;
  /** Connector instances that are not asked for, until when. */
  readonly avoid: Map<string, Instant>;
  lastUsedAt: Instant;
}

/** One service over one tunnel. */
export interface Bond {
  readonly access: Access;
  readonly pair: Pair;
  state: "opening" | "granted";
  /** Since when, after how many failures in a row. */
  granted: { readonly at: Instant; readonly failures: number } | undefined;
  /** Its session at each relay, by the relay's number. */
  readonly links: Map<number, Link>;
  /** Flows under way. */
  flows: number;
  /** When one was opened or closed last. */
  usedAt: Instant | undefined;
}

/** One service over one tunnel, at one relay. */
export interface Link {
  session: string | undefined;
  leaseUntil: Instant | undefined;
  /** When the relay is asked for the session, or asked again. */
  askAt: Instant;
  /** Whether the relay has not answered yet. */
  asking: boolean;
  failures: number;
  /** Set while a relay with another epoch has not confirmed the session. */
  confirmBy: Instant | undefined;
}

/** An application's patience is longer: the data plane holds its SYN for 10 s. */
export const WANTED_FOR: Duration = seconds(8);

/** How long a connector that did not prove itself is not asked for. */
export const AVOID_FOR: Duration = seconds(60);

/** A session that served for so long did not end at once. */
export const SERVED_MIN: Duration = seconds(5);

/** Tunnels of one service that fell silent within two minutes; nobody has so many connectors. */
export const STANDBY_MAX = 4;

export function newAccess(service: string, now: Instant): Access {
  return {
    ...{ service, bond: undefined, standby: [], ask: undefined, asked: new Set<number>() },
    ...{ wantedUntil: undefined, failures: 0, failedAt: undefined, lastFailure: undefined },
    ...{ avoid: new Map<string, Instant>(), lastUsedAt: now },
  };
}

export function newLink(askAt: Instant): Link {
  return {
    ...{ session: undefined, leaseUntil: undefined, askAt, asking: false },
    ...{ failures: 0, confirmBy: undefined },
  };
}

/** Returns when a service may be asked for again: soon while somebody waits, else ever more rarely. */
export function nextAskAt(access: Access): Instant | undefined {
  const { failedAt, failures, wantedUntil, standby } = access;
  if (failedAt === undefined) return undefined;

  const urgent = wantedUntil !== undefined || standby.length > 0;
  return after(failedAt, backoff(failures, urgent ? WANTED_WAIT : IDLE_WAIT));
}

/** Returns the wait after `failures` in a row: doubling from a quarter of a second. */
export function backoff(failures: number, longest: Duration = IDLE_WAIT): Duration {
  return ms(Math.min(longest, FIRST_WAIT * 2 ** Math.min(failures - 1, DOUBLINGS_MAX)));
}

export function noteGranted(bond: Bond, now: Instant): void {
  const { access } = bond;
  bond.state = "granted";
  bond.granted = { at: now, failures: access.failures };
  Object.assign(access, { failures: 0, failedAt: undefined, lastFailure: undefined });
}

/**
 * Notes that a session ended and left its service without one. If it served nobody and not for long,
 * that is a failure: a connector that grants and ends at once gets no tight loop.
 */
export function noteEnd({ access, granted, usedAt }: Bond, now: Instant): void {
  if (granted === undefined || usedAt !== undefined || access.bond !== undefined) return;
  if (now >= after(granted.at, SERVED_MIN)) return;
  access.failures = granted.failures + 1;
  access.failedAt = now;
}

export function bondsOf({ bond, standby }: Access): Bond[] {
  return bond === undefined ? [...standby] : [bond, ...standby];
}

export function bondOn(access: Access, pair: Pair): Bond | undefined {
  return bondsOf(access).find((bond) => bond.pair === pair);
}

/**
 * Returns what `status` says after `failure`: that no relay has another connector than those which
 * are avoided says less than why they are.
 */
export function moreTelling(access: Access, failure: AccessFailure, now: Instant): AccessFailure {
  const { lastFailure: known, avoid } = access;
  const avoids = [...avoid.values()].some((until) => until > now);
  const isConsequence = failure.code === "no-connector" && avoids;
  return isConsequence && known !== undefined && UNPROVEN_CODES.has(known.code) ? known : failure;
}

/** Whether somebody uses the service. Flows that its session's end cuts may be told to have ended before. */
export function isUsed({ flows, usedAt }: Bond, now: Instant): boolean {
  return flows > 0 || (usedAt !== undefined && now < after(usedAt, CUT_TOLD_WITHIN));
}

/** Returns the bond that can go with the least harm, if any can. */
export function idlestOf(bonds: readonly Bond[]): Bond | undefined {
  const [idlest] = bonds
    .filter(({ flows, state }) => flows === 0 && state === "granted")
    .sort((a, b) => a.access.lastUsedAt - b.access.lastUsedAt);
  return idlest;
}

const CUT_TOLD_WITHIN: Duration = seconds(1);
const FIRST_WAIT: Duration = ms(250);
/** Well within the three seconds in which a connector that came back serves. */
const WANTED_WAIT: Duration = seconds(1);
const IDLE_WAIT: Duration = seconds(30);
/** Past any wait there is; keeps the power finite. */
const DOUBLINGS_MAX = 16;
