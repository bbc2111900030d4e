/**
 * What a relay costs: processor time of a forwarded packet, memory of an idle leg, time of a handshake.
 *
 * Each measurement has a relay process of its own on loopback, the whole of which is counted:
 * JavaScript, data plane and what the kernel does on its account.
 */
import { Deployment, type Role } from "../support/deployment.ts";
import { freePort } from "../support/ports.ts";
import { must, TestProcess } from "../support/process.ts";
import { relaySpec } from "../support/simple-deployment.ts";
import { median } from "./comparison.ts";
import { usageOf } from "./process-usage.ts";
import { LOAD, type LoadResult } from "./scene.ts";

/** The size of a full packet of a tunnel with an unraised MTU. */
const FRAME_BYTES = 1209;
export const TRAIN = 16;

export interface Forwarding {
  /** Packets a second of the relay's processor time. */
  readonly inTrains: number;
  readonly interleaved: number;
  /** Medians over the legs, one after the other. */
  readonly handshakeMs: number;
  readonly welcomeMs: number;
}

export interface IdleLegs {
  readonly legs: number;
  readonly rssBytes: number;
  /** Over the relay without legs. */
  readonly bytesPerLeg: number;
}

export function measureForwarding(durationMs: number): Promise<Forwarding> {
  return withForwarding(async ({ relay, load, handshakeMs, welcomeMs }) => {
    const perCpuSecond = async (train: number) => {
      const before = usageOf(relay.process.pid).cpuSeconds;
      const { packets = 0 } = await load(train, durationMs);
      return packets / (usageOf(relay.process.pid).cpuSeconds - before);
    };
    return {
      inTrains: await perCpuSecond(TRAIN),
      interleaved: await perCpuSecond(1),
      handshakeMs: median(handshakeMs),
      welcomeMs: median(welcomeMs),
    };
  });
}

export interface ForwardingRelay {
  readonly relay: Role;
  /** Sends through the channels, `train` packets at a time. */
  readonly load: (train: number, durationMs: number) => Promise<LoadResult>;
  readonly handshakeMs: readonly number[];
  readonly welcomeMs: readonly number[];
}

/** Channels last for half a minute: their legs say nothing more. */
export function withForwarding<T>(use: (forwarding: ForwardingRelay) => Promise<T>): Promise<T> {
  return withRelay(async (deployment, relay, port) => {
    const { channels, handshakeMs, welcomeMs } = await openChannels(deployment, port);
    const load: ForwardingRelay["load"] = (train, durationMs) =>
      runLoad(port, channels, train, durationMs);
    return await use({ relay, load, handshakeMs, welcomeMs });
  });
}

/** @param counts ascending. */
export function measureIdleLegs(counts: readonly number[]): Promise<IdleLegs[]> {
  return withRelay(async (deployment, relay, port) => {
    // What a process allocates when it serves its first leg is not the legs'.
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
  channels: Channels["channels"],
  train: number,
  durationMs: number,
): Promise<LoadResult> {
  const lines = channels.map(({ from, to, id }) => `${from} ${to} ${id}\n`).join("");
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
    const spec = relaySpec(deployment, `127.0.0.1:${port}`);
    const config = { ...spec.config, limits: { legsPerIdentity: 1000 }, logLevel: "warn" };
    const relay = await deployment.add({ ...spec, config });
    await relay.ready();
    return await deployment.explain(() => measure(deployment, relay, port));
  } finally {
    await deployment.remove();
  }
}

/** 10,000 handshakes on both sides of one core. */
const LEGS_WITHIN_MS = 180_000;
/** Garbage is collected, and what the handshakes needed is given back. */
const SETTLE_MS = 5000;
