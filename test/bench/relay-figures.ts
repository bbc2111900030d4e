/**
 * What a relay costs: processor time of a forwarded packet, memory of an idle leg, time of a handshake.
 *
 * Each measurement has a relay process of its own on loopback, the whole of which is counted:
 * JavaScript, data plane and what the kernel does on its account.
 */
import { readFileSync } from "node:fs";
import { Deployment, type Role } from "../support/deployment.ts";
import { freePort } from "../support/ports.ts";
import { must, TestProcess } from "../support/process.ts";
import { relaySpec } from "../support/simple-deployment.ts";
import { median, type Pair } from "./comparison.ts";
import { usageOf } from "./process-usage.ts";
import { LOAD, type LoadResult } from "./scene.ts";
import { pairOfRuns, withStolenTime } from "./stolen-time.ts";

/** The size of a full packet of a tunnel with an unraised MTU. */
const FRAME_BYTES = 1209;
/** Packets of a channel that leave in one call; a bulk transfer sends up to 53 (65,000 octets). */
export const TRAINS = [16, 48, 1] as const;

export interface Forwarding {
  /** In the order of {@link TRAINS}. */
  readonly loads: readonly ForwardedLoad[];
  /** Medians over the legs, one after the other. */
  readonly handshakeMs: number;
  readonly welcomeMs: number;
}

export interface ForwardedLoad {
  readonly train: number;
  /** Packets a second of processor time: of the relay, and of the least that forwards. */
  readonly pair: Pair;
}

export interface IdleLegs {
  readonly legs: number;
  readonly rssBytes: number;
  /** Over the relay without legs. */
  readonly bytesPerLeg: number;
}

/** @param saturated on one processor with the load: more waits than is served. */
export function measureForwarding(durationMs: number, saturated: boolean): Promise<Forwarding> {
  return withForwarding(async ({ relay, plain, load, handshakeMs, welcomeMs }) => {
    const perCpuSecond = async (over: Forwarder, train: number) => {
      const before = usageOf(over.pid).cpuSeconds;
      const { packets = 0, sent = 0 } = await load(over, train, durationMs);
      if (over === relay && packets < ARRIVING_MIN * sent) {
        throw new Error(`of ${sent} packets ${packets} came through: the channels are gone`);
      }
      return packets / (usageOf(over.pid).cpuSeconds - before);
    };
    const measure = async () => {
      const loads: ForwardedLoad[] = [];
      for (const train of TRAINS) {
        const bare = await withStolenTime(() => perCpuSecond(plain, train));
        const tunnel = await withStolenTime(() => perCpuSecond(relay, train));
        loads.push({ train, pair: pairOfRuns(bare, tunnel) });
      }
      return loads;
    };
    if (saturated) {
      for (const { pid } of [plain, relay]) await shareOneProcessor(pid);
    }
    return {
      loads: await (saturated ? onOneProcessor(measure) : measure()),
      handshakeMs: median(handshakeMs),
      welcomeMs: median(welcomeMs),
    };
  });
}

/** What this process starts meanwhile has that one processor too. */
async function onOneProcessor<T>(use: () => Promise<T>): Promise<T> {
  await shareOneProcessor(process.pid);
  try {
    return await use();
  } finally {
    await allow(process.pid, PROCESSORS);
  }
}

function shareOneProcessor(pid: number): Promise<void> {
  const [first = "0"] = PROCESSORS.split(/[,-]/);
  return allow(pid, first);
}

async function allow(pid: number, processors: string): Promise<void> {
  await must(["taskset", "--all-tasks", "--cpu-list", "--pid", processors, String(pid)]);
}

/** Those of this process, such as `0-1` or `0,2`. */
const PROCESSORS =
  /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";

export interface Forwarder {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
}

export interface ForwardingScene {
  readonly relay: Forwarder;
  /** Copies packets and does nothing else. */
  readonly plain: Forwarder;
  /** Sends through the channels, `train` packets at a time. */
  readonly load: (over: Forwarder, train: number, durationMs: number) => Promise<LoadResult>;
  readonly handshakeMs: readonly number[];
  readonly welcomeMs: readonly number[];
}

/** Channels last for half a minute: their legs say nothing more. */
export function withForwarding<T>(use: (scene: ForwardingScene) => Promise<T>): Promise<T> {
  return withRelay(async (deployment, relay, port) => {
    const { channels, handshakeMs, welcomeMs } = await openChannels(deployment, port);
    const lines = channels.map(({ from, to, id }) => `${from} ${to} ${id}\n`).join("");
    const plain = await startPlainForwarder(lines);
    try {
      return await use({
        relay: { name: "relay", pid: relay.process.pid, port },
        plain: { name: "plain", pid: plain.process.pid, port: plain.port },
        load: (over, train, durationMs) => runLoad(over.port, lines, train, durationMs),
        handshakeMs,
        welcomeMs,
      });
    } finally {
      await plain.process.stop("SIGKILL");
    }
  });
}

async function startPlainForwarder(
  lines: string,
): Promise<{ readonly process: TestProcess; readonly port: number }> {
  const port = await freePort();
  const command = [LOAD, "forward", "127.0.0.1", `port=${port}`, `size=${FRAME_BYTES}`];
  const process = new TestProcess(command, { name: "plain", stdin: true });
  process.write(lines);
  process.endInput();
  await process.line(/^ready$/, { withinMs: 5000 });
  return { process, port };
}

/** @param counts ascending. */
export function measureIdleLegs(counts: readonly number[]): Promise<IdleLegs[]> {
  return withRelay(async (deployment, relay, port) => {
    const legs = startLegs("idle", deployment, port, true);
    const results: IdleLegs[] = [];
    try {
      const empty = usageOf(relay.process.pid).rssBytes;
      for (const count of counts) {
        const from = legs.lines.length;
        legs.write(`${count}\n`);
        await legs.line(/^\{/, { withinMs: LEGS_WITHIN_MS }, from);
        await Bun.sleep(SETTLE_MS);
        const { rssBytes } = usageOf(relay.process.pid);
        results.push({ legs: count, rssBytes, bytesPerLeg: (rssBytes - empty) / count });
      }
      return results;
    } finally {
      await legs.stop("SIGKILL");
    }
  });
}

interface Channels {
  readonly channels: readonly { readonly from: string; readonly to: string; readonly id: string }[];
  readonly handshakeMs: readonly number[];
  readonly welcomeMs: readonly number[];
}

/** The process of the legs is gone when this returns: their addresses are free. */
async function openChannels(deployment: Deployment, port: number): Promise<Channels> {
  const legs = startLegs("channels", deployment, port);
  try {
    return JSON.parse(await legs.line(/^\{/, { withinMs: LEGS_WITHIN_MS })) as Channels;
  } finally {
    await legs.stop("SIGKILL");
  }
}

function startLegs(
  mode: "idle" | "channels",
  deployment: Deployment,
  port: number,
  stdin = false,
): TestProcess {
  const main = new URL("legs-main.ts", import.meta.url).pathname;
  const command = [process.execPath, main, mode, `127.0.0.1:${port}`, deployment.directory];
  return new TestProcess(command, { name: "legs", stdin });
}

async function runLoad(
  port: number,
  lines: string,
  train: number,
  durationMs: number,
): Promise<LoadResult> {
  const options = [`port=${port}`, `size=${FRAME_BYTES}`, `train=${train}`, `ms=${durationMs}`];
  return JSON.parse(await must([LOAD, "relay", "127.0.0.1", ...options], lines)) as LoadResult;
}

async function withRelay<T>(
  measure: (deployment: Deployment, relay: Role, port: number) => Promise<T>,
): Promise<T> {
  const deployment = await Deployment.create();
  try {
    await deployment.issue("relay", "relay", "--host", "127.0.0.1");
    const port = await freePort();
    // As it listens where nobody chooses.
    const spec = relaySpec(deployment, `0.0.0.0:${port}`);
    const config = { ...spec.config, limits: { legsPerIdentity: 1000 }, logLevel: "warn" };
    const relay = await deployment.add({ ...spec, config });
    await relay.ready();
    return await deployment.explain(() => measure(deployment, relay, port));
  } finally {
    await deployment.remove();
  }
}

/** A full buffer may cost some; a leg that is gone costs all of its channels. */
const ARRIVING_MIN = 0.9;
/** 10,000 handshakes on both sides of one core. */
const LEGS_WITHIN_MS = 180_000;
/** Garbage is collected, and what the handshakes needed is given back. */
const SETTLE_MS = 5000;
