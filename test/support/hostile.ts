/** Runs `ztna-hostile`, the peer that no sane program is (`native/crates/ztna-hostile`). */
import { writeFileSync } from "node:fs";
import { fingerprint, isFresh, recordBuild } from "../../scripts/lib/fingerprint.ts";
import { must } from "./process.ts";

const PROGRAM = "native/target/debug/ztna-hostile";
const RECORD = ".cache/build/ztna-hostile.txt";

/** Takes no time, and no part in cargo's queue, when the program is there and fresh. */
export async function buildHostile(): Promise<void> {
  const digest = fingerprint({ globs: ["native/crates/ztna-hostile/**/*"], facts: [] });
  if (isFresh(PROGRAM, RECORD, digest)) return;

  // In native/, whose configuration leads cargo to the BoringSSL that is compiled already.
  const cargo = ["env", "--chdir=native", "cargo"];
  await must([...cargo, "build", "--quiet", "--locked", "--package", "ztna-hostile"]);
  recordBuild(PROGRAM, RECORD, digest);
}

/** How one connection of {@link dial} went. */
export interface DialOutcome {
  readonly established: boolean;
  readonly resumed: boolean;
  readonly earlyOffered: boolean;
  /** Octets that stream 0 took. */
  readonly written: number;
  /** Octets that came on stream 0. */
  readonly received: number;
  readonly end:
    | { readonly by: "nobody" | "timeout" }
    | {
        readonly by: "peer" | "local";
        /** Close code, or 0x100 + TLS alert. */
        readonly code: number;
        readonly application: boolean;
        readonly reason: string;
      };
}

type Settings = Readonly<Record<string, string | number>>;

export async function dial(remote: string, settings: Settings): Promise<DialOutcome> {
  return (await hostile("dial", remote, settings)) as DialOutcome;
}

export async function sendGarbage(
  remote: string,
  settings: Settings,
): Promise<{ readonly sent: number; readonly untaken: number }> {
  return (await hostile("garbage", remote, settings)) as { sent: number; untaken: number };
}

export interface HalfOpenOutcome {
  readonly sources: number;
  readonly sent: number;
  readonly sentOctets: number;
  readonly answers: number;
  readonly answeredOctets: number;
}

export async function openHalf(remote: string, settings: Settings): Promise<HalfOpenOutcome> {
  return (await hostile("half-open", remote, settings)) as HalfOpenOutcome;
}

/** What came of hostile deeds inside a tunnel. */
export interface TunnelOutcome {
  /** Streams that were begun. */
  readonly flows: number;
  /** DATAGRAMs that left. */
  readonly datagrams: number;
  /** Answers of the connector to headers, by octet. */
  readonly answers: Readonly<Record<string, number>>;
  readonly resets: number;
  /** Whether an honest packet came back at the end. */
  readonly echoed: boolean;
  readonly end: DialOutcome["end"];
}

/** Opens a session for `service` at a relay, and is hostile to its connector `count` times. */
export async function abuseTunnel(
  relay: string,
  settings: Settings & { readonly service: string; readonly count: number },
): Promise<TunnelOutcome> {
  return (await hostile("tunnel", relay, settings)) as TunnelOutcome;
}

/** Writes octets that {@link dial} can be given as `stream`; returns the path. */
export function streamFile(path: string, ...frames: readonly Uint8Array[]): string {
  writeFileSync(path, Buffer.concat(frames));
  return path;
}

/** A control frame around a body, which need not be JSON. */
export function frame(body: string | Uint8Array, length = Buffer.byteLength(body)): Uint8Array {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(length);
  return Buffer.concat([head, Buffer.from(body)]);
}

/** The first frame of a peer that was not there before. */
export function helloFrame(): Uint8Array {
  const instance = crypto.randomUUID().replaceAll("-", "");
  const attempt = 1;
  const nonce = "ab".repeat(32);
  const software = "hostile";
  return frame(JSON.stringify({ type: "hello", instance, attempt, features: [], nonce, software }));
}

async function hostile(what: string, remote: string, settings: Settings): Promise<unknown> {
  const pairs = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return JSON.parse(await must([PROGRAM, what, remote, ...pairs]));
}
