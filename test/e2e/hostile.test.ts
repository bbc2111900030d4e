/** Strangers, broken peers and floods: the roles live, remember little, and serve the others. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { counterOf } from "../support/counters.ts";
import type { Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import {
  buildHostile,
  dial,
  frame,
  helloFrame,
  openHalf,
  sendGarbage,
  streamFile,
} from "../support/hostile.ts";
import { run } from "../support/process.ts";
import { residentMib } from "../support/resources.ts";
import { scaled } from "../support/scale.ts";
import { type SimpleDeployment, startSimpleDeployment } from "../support/simple-deployment.ts";

/** What a role may grow by under any of this. A flood that were kept would take ten times as much. */
const GROWTH_MIB_MAX = 96;
const PROTOCOL_VIOLATION = 1;
const LIMIT_EXCEEDED = 6;
const ROLES = ["relay", "connector", "agent"] as const;
const DOWNLOAD_BYTES = 64 * 1024 ** 2;

let it: SimpleDeployment;
let shown: { readonly chain: string; readonly key: string };

beforeAll(async () => {
  await buildHostile();
  it = await startSimpleDeployment();
  await it.deployment.issue("agent", "mallory", "--service", "other-service");
  shown = { chain: it.deployment.file("mallory.crt"), key: it.deployment.file("mallory.key") };
  await page();
});
afterAll(() => it.deployment.remove());

describe("garbage", () => {
  test.each(ROLES.map((name) => ({ name })))("from strangers costs the $name nothing", ({ name }) =>
    unharmed(async () => {
      const dropped = await droppedBy(it[name]);

      const [{ sent }, received] = await Promise.all([
        sendGarbage(udpAddressOf(it[name]), { count: scaled(1_000_000), seed: 7 }),
        download(),
      ]);

      expect(received).toBe(DOWNLOAD_BYTES);
      // The system drops some of them before anybody reads them.
      expect(await droppedBy(it[name])).toBeGreaterThan(dropped + sent / 10);
    }),
  );

  const spoofed = [
    { name: "connector", source: "relay" },
    { name: "agent", source: "relay" },
    { name: "relay", source: "connector" },
  ] as const;
  test.skipIf(process.getuid?.() !== 0).each([...spoofed])(
    "with the address of the $source as its source costs the $name nothing",
    ({ name, source }) =>
      unharmed(async () => {
        const dropped = await droppedBy(it[name]);
        const spoof = udpAddressOf(it[source]);

        const [{ sent }, received] = await Promise.all([
          sendGarbage(udpAddressOf(it[name]), { count: scaled(1_000_000), spoof, seed: 8 }),
          download(),
        ]);

        expect(received).toBe(DOWNLOAD_BYTES);
        expect(await droppedBy(it[name])).toBeGreaterThan(dropped + sent / 10);
      }),
  );
});

describe("a control frame", () => {
  const twice = '{"type":"hello","type":"hello"}';
  test.each<{ name: string; frames: readonly Uint8Array[] }>([
    { name: "that is too long before the peer is known", frames: [frame("", 65_537)] },
    { name: "that is too long", frames: [helloFrame(), frame("", 65_537)] },
    { name: "that claims four gigabytes", frames: [helloFrame(), frame("", 0xff_ff_ff_ff)] },
    { name: "without a body", frames: [helloFrame(), frame("")] },
    { name: "cut in the middle", frames: [helloFrame(), frame('{"type":"serv')] },
    { name: "nested too deep", frames: [helloFrame(), frame(nested(9))] },
    { name: "nested ten thousand times", frames: [helloFrame(), frame(nested(10_000))] },
    { name: "with a key twice", frames: [helloFrame(), frame(twice)] },
    { name: "that is no object", frames: [helloFrame(), frame("[1,2,3]")] },
    { name: "that is no text", frames: [helloFrame(), frame(Buffer.from([0xff, 0xfe, 0x00]))] },
    { name: "before hello", frames: [frame('{"type":"observed","address":"192.0.2.1:1"}')] },
    { name: "that is hello again", frames: [helloFrame(), helloFrame()] },
  ])("$name ends the leg as a violation, and is counted", ({ frames }) =>
    unharmed(async () => {
      const violations = await violationsOf(it.relay);
      const stream = streamFile(it.deployment.file("frames.bin"), ...frames);

      const { end } = await dial(it.relayAddress, { ...shown, stream, ms: 5000 });

      expect(end).toMatchObject({ by: "peer", code: PROTOCOL_VIOLATION, application: true });
      const counted = await eventually("the count", { withinMs: 5000 }, async () => {
        const found = await violationsOf(it.relay);
        return found > violations ? found : undefined;
      });
      expect(counted).toBe(violations + 1);
    }),
  );

  test("of an unknown kind is taken for a later version's and ignored", () =>
    unharmed(async () => {
      const later = frame('{"type":"of-a-later-version","field":[[[]]]}');
      const stream = streamFile(it.deployment.file("frames.bin"), helloFrame(), later);

      const { end } = await dial(it.relayAddress, { ...shown, stream, ms: 1000 });

      expect(end).toEqual({ by: "nobody" });
    }));
});

describe("a peer", () => {
  test("that asks without end and reads no answer is ended", () =>
    unharmed(async () => {
      const request = frame('{"type":"of-a-later-version","request":1}');
      const frames = [helloFrame(), ...Array.from({ length: 20_000 }, () => request)];
      const stream = streamFile(it.deployment.file("frames.bin"), ...frames);

      const { end } = await dial(it.relayAddress, { ...shown, stream, reads: 0, ms: 25_000 });

      expect(end).toMatchObject({ by: "peer", code: LIMIT_EXCEEDED, application: true });
    }));

  test("that begins handshakes from many addresses is answered by less than it sends", () =>
    unharmed(async () => {
      const outcome = await openHalf(it.relayAddress, { count: scaled(10_000) });

      expect(outcome.answers).toBeGreaterThan(0);
      expect(outcome.answeredOctets).toBeLessThan(outcome.sentOctets);
    }));

  test("that proves many addresses and then falls silent is answered three times at most", () =>
    unharmed(async () => {
      const outcome = await openHalf(it.relayAddress, { count: scaled(10_000), retried: 1 });

      expect(outcome.answeredOctets).toBeLessThanOrEqual(3 * outcome.sentOctets);
      // Those that fell silent lose their places after 5 s.
      await eventually("a leg", { withinMs: 12_000, everyMs: 500 }, async () => {
        const { established } = await dial(it.relayAddress, { ...shown, ms: 1000 });
        return established ? true : undefined;
      });
    }));
});

/** All roles live, have grown little and serve. */
async function unharmed(part: () => Promise<void>): Promise<void> {
  await it.deployment.explain(async () => {
    const before = ROLES.map((name) => residentMib(it[name].process.pid));
    await part();
    ROLES.forEach((name, index) => {
      expect(it[name].process.hasExited).toBe(false);
      expect(residentMib(it[name].process.pid)).toBeLessThan((before[index] ?? 0) + GROWTH_MIB_MAX);
    });
    await page();
  });
}

async function page(): Promise<void> {
  const url = `http://127.0.0.1:${it.forwards.http}/hello`;
  const { code, stderr } = await run(["curl", "-sS", "--max-time", "5", url]);
  if (code !== 0) throw new Error(stderr);
}

async function download(): Promise<number> {
  const url = `http://127.0.0.1:${it.forwards.http}/bytes/${DOWNLOAD_BYTES}`;
  const write = ["--write-out", "%{size_download}", "--output", "/dev/null"];
  const { stdout } = await run(["curl", "-sS", "--max-time", "120", ...write, url]);
  return Number(stdout);
}

function udpAddressOf({ spec, process: { lines } }: Role): string {
  if (spec.role === "relay") return it.relayAddress;
  const started = lines.find((line) => line.includes('"role started"')) ?? "{}";
  const { local } = JSON.parse(started) as { local: string };
  return local.replace("0.0.0.0", "127.0.0.1");
}

/** Datagrams that the data plane gave to nobody. */
async function droppedBy(role: Role): Promise<number> {
  const metrics = await role.metrics();
  const count = (event: string) =>
    counterOf(metrics, "ztna_data_plane_events_total", `event="${event}`);
  return count("dropped_") + count("retries_");
}

async function violationsOf(role: Role): Promise<number> {
  return counterOf(await role.metrics(), "ztna_protocol_violations_total");
}

function nested(depth: number): string {
  return `{"type":"x","field":${"[".repeat(depth)}${"]".repeat(depth)}}`;
}
