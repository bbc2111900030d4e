/** An agent that may use a service and is hostile inside its tunnel: the connector serves on. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dataPlaneCounter } from "../support/counters.ts";
import { eventually } from "../support/eventually.ts";
import { abuseTunnel, buildHostile, frame, streamFile } from "../support/hostile.ts";
import { run } from "../support/process.ts";
import { residentMib } from "../support/resources.ts";
import { scaled } from "../support/scale.ts";
import {
  SERVICE,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";

/** What a connector may grow by: one tunnel's reassembly and held datagrams, and what its heap keeps. */
const GROWTH_MIB_MAX = 64;
const PROTOCOL_VIOLATION = 1;
const DOWNLOAD_BYTES = 64 * 1024 ** 2;

let it: SimpleDeployment;
let shown: { readonly chain: string; readonly key: string; readonly service: string };

beforeAll(async () => {
  await buildHostile();
  it = await startSimpleDeployment();
  await it.deployment.issue("agent", "mallory", "--service", SERVICE);
  shown = {
    chain: it.deployment.file("mallory.crt"),
    key: it.deployment.file("mallory.key"),
    service: SERVICE,
  };
  expect(await fetched("hello")).toBeGreaterThan(0);
});
afterAll(() => it.deployment.remove());

describe("an agent inside its tunnel", () => {
  test("that sends broken headers and datagrams is answered and counted, and harms nobody", () =>
    it.deployment.explain(async () => {
      const before = await it.connector.metrics();
      const mib = residentMib(it.connector.process.pid);

      const [outcome, bytes] = await Promise.all([
        abuseTunnel(it.relayAddress, { ...shown, count: scaled(100_000), seed: 11 }),
        fetched(`bytes/${DOWNLOAD_BYTES}`),
      ]);

      expect(outcome).toMatchObject({ echoed: true, end: { by: "nobody" } });
      expect(bytes).toBe(DOWNLOAD_BYTES);
      expect(outcome.flows).toBeGreaterThan(scaled(10_000));
      // Not available, and kind not supported.
      expect(outcome.answers["1"]).toBeGreaterThan(0);
      expect(outcome.answers["8"]).toBeGreaterThan(0);
      const after = await it.connector.metrics();
      const uncounted = COUNTED.filter(
        (event) => dataPlaneCounter(after, event) <= dataPlaneCounter(before, event),
      );
      expect(uncounted).toEqual([]);
      expect(residentMib(it.connector.process.pid)).toBeLessThan(mib + GROWTH_MIB_MAX);
      await served();
    }));

  test.each([
    { name: "no JSON", octets: frame("{") },
    { name: "too long", octets: frame("", 65_537) },
    { name: "no object", octets: frame("[]") },
  ])(
    "that sends a control frame which is $name loses the tunnel, and nobody else does",
    ({ octets }) =>
      it.deployment.explain(async () => {
        const stream = streamFile(it.deployment.file("tunnel-frames.bin"), octets);

        const outcome = await abuseTunnel(it.relayAddress, { ...shown, count: 0, stream });

        expect(outcome.echoed).toBe(true);
        expect(outcome.end).toMatchObject({
          by: "peer",
          code: PROTOCOL_VIOLATION,
          application: true,
        });
        await served();
      }),
  );
});

/** One event of each thing that the deeds do wrong. */
const COUNTED = [
  "headers_invalid",
  "datagrams_dropped_malformed",
  "datagrams_dropped_unknown_flow",
  "reassembly_drops_overlap",
  "reassembly_drops_total_changed",
] as const;

/** The connector lives, and serves the other agent in the tunnel that it had. */
async function served(): Promise<void> {
  expect(it.connector.process.hasExited).toBe(false);
  await eventually("a page", { withinMs: 5000 }, async () =>
    (await fetched("hello")) > 0 ? true : undefined,
  );
  expect(dataPlaneCounter(await it.agent.metrics(), "connections_closed")).toBe(0);
}

async function fetched(path: string): Promise<number> {
  const url = `http://127.0.0.1:${it.forwards.http}/${path}`;
  const write = ["--write-out", "%{size_download}", "--output", "/dev/null"];
  const { stdout } = await run(["curl", "-sS", "--max-time", "120", ...write, url]);
  return Number(stdout);
}
