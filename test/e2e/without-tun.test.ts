/** What applications see of agents without TUN: local ports and SOCKS5, on addresses of both families. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { counterOf } from "../support/counters.ts";
import { HERE, ZTNA } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { type LocalWay, LocalWays } from "../support/local-ways.ts";
import { pattern, patternDigest } from "../support/pattern.ts";
import { must, run } from "../support/process.ts";
import { isAnswer, question, RESOLVED, resolverUnavailable } from "../support/resolver.ts";
import { LONG, scaled } from "../support/scale.ts";
import {
  agentSpec,
  SERVICE,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";
import { SocksRefusal, socksConnect } from "../support/socks-client.ts";
import type { TcpClient } from "../support/tcp-client.ts";

const BIG = scaled(1024 ** 3);
const PARALLEL = scaled(200);
const DATAGRAM_STEP = LONG ? 1 : 10;
const PING_STEP = LONG ? 100 : 1000;
/** Longer than a tunnel may be idle; a shorter run shows the application's part alone. */
const SILENT_SECONDS = LONG ? 200 : 20;

const noResolver = resolverUnavailable();
const WAYS = [
  { name: "a forwarded port", way: () => byIpv4.forwarded },
  { name: "a forwarded port of an IPv6 address", way: () => byIpv6.forwarded },
  { name: "SOCKS5", way: () => byIpv4.socks },
  { name: "SOCKS5 at an IPv6 address", way: () => byIpv6.socks },
] as const;

let it: SimpleDeployment;
let byIpv4: LocalWays;
let byIpv6: LocalWays;
/** Runs beside the other tests, since nothing happens in it. */
let silence: Promise<readonly string[]>;

beforeAll(async () => {
  it = await startSimpleDeployment({ withResolver: noResolver === undefined });
  byIpv4 = await startAgent("bob", HERE.host);
  byIpv6 = await startAgent("carol", "::1");
  silence = Promise.all(WAYS.map(async ({ way }) => speakAfterSilence(await way().tcp("echo"))));
  // What fails is told by the test that waits for it.
  silence.catch(() => undefined);
});
afterAll(() => it.deployment.remove());

describe.each([...WAYS])("through $name", ({ way }) => {
  test("curl gets a page", () =>
    it.deployment.explain(async () => {
      const page = await must(["curl", "-sS", "--max-time", "10", ...way().curl("/hello")]);

      expect(page).toBe("hello from the backend\n");
    }));

  test("a big download arrives whole", () =>
    it.deployment.explain(async () => {
      const download = `${curlOf(way(), `/bytes/${BIG}`)} | sha256sum`;

      expect(await shell(download)).toBe(`${patternDigest(BIG)}  -\n`);
    }));

  test("a big upload arrives whole", () =>
    it.deployment.explain(async () => {
      const zeros = `head -c ${BIG} /dev/zero`;
      const digest = (await shell(`${zeros} | sha256sum`)).slice(0, 64);
      const upload = `${zeros} | ${curlOf(way(), "/digest")} -T - -X POST`;

      expect(JSON.parse(await shell(upload))).toEqual({ length: BIG, digest });
    }));

  test("many downloads side by side arrive whole", () =>
    it.deployment.explain(async () => {
      const length = 1_000_000;
      const one = `${curlOf(way(), `/bytes/${length}`)} | sha256sum`;
      const lines = await shell(`for i in $(seq ${PARALLEL}); do (${one}) & done; wait`);

      const whole = `${patternDigest(length)}  -`;
      expect(lines.trim().split("\n")).toEqual(Array(PARALLEL).fill(whole));
    }));

  test("a client that has finished still gets the answer", () =>
    it.deployment.explain(async () => {
      const client = await way().tcp("digest");
      const length = 3_000_000;
      for (const block of pattern(length)) await client.write(block);
      client.finish();

      const answer = (await client.readToEnd()).toString();
      expect(answer).toBe(`${length} ${patternDigest(length)}\n`);
    }));

  test("a long conversation keeps its order", () =>
    it.deployment.explain(async () => {
      const client = await way().tcp("echo");
      for (let turn = 0; turn < 500; turn += 1) {
        const words = Buffer.from(`turn ${turn} ${"x".repeat(turn)}`);
        await client.write(words);
        expect(await client.read(words.length)).toEqual(words);
      }
      client.finish();
      expect(await client.readToEnd()).toHaveLength(0);
    }));

  test("datagrams of every size come back as they were, above the path's MTU too", () =>
    it.deployment.explain(async () => {
      const client = await way().udp("udp");
      for (let size = 0; size <= 1400; size += DATAGRAM_STEP) {
        await client.echo(Buffer.alloc(size, size % 251));
      }
      for (const size of [1401, 4096, 9000, 9216]) await client.echo(Buffer.alloc(size, 7));
      client.close();
    }));

  test.skipIf(noResolver !== undefined)(`a resolver is asked (${noResolver ?? "dnsmasq"})`, () =>
    it.deployment.explain(async () => {
      const client = await way().udp("dns");
      await client.ask(question(7), (datagram) => isAnswer(datagram, 7));
      client.close();
    }),
  );
});

describe("an agent without TUN", () => {
  test.skipIf(noResolver !== undefined).each([
    { name: "UDP", transport: "+notcp", ways: () => byIpv4 },
    { name: "TCP", transport: "+tcp", ways: () => byIpv4 },
    { name: "UDP and IPv6", transport: "+notcp", ways: () => byIpv6 },
    { name: "TCP and IPv6", transport: "+tcp", ways: () => byIpv6 },
  ])(`lets dig ask a resolver by $name (${noResolver ?? "dnsmasq"})`, ({ transport, ways }) =>
    it.deployment.explain(async () => {
      const dig = ["dig", "+short", "+tries=3", "+time=2", transport, ...ways().dig];

      expect(await must([...dig, RESOLVED.name, "A"])).toBe(`${RESOLVED.ipv4}\n`);
      expect(await must([...dig, RESOLVED.name, "AAAA"])).toBe(`${RESOLVED.ipv6}\n`);
    }),
  );

  test("gets answers to pings of 0 to 8,000 octets", () =>
    it.deployment.explain(async () => {
      for (let size = 0; size <= 8000; size += PING_STEP) {
        const flags = ["--count", "3", "--interval", "0.01", "--size", String(size), "--json"];
        const socket = ["--control-socket", it.deployment.file("bob.sock")];
        const answer = JSON.parse(await must([ZTNA, "ping", SERVICE, ...flags, ...socket]));
        expect(answer).toMatchObject({ sent: 3, received: 3 });
      }
    }));

  test("carries data again over connections that were silent for long", () =>
    it.deployment.explain(async () => {
      expect(await silence).toEqual(WAYS.map(() => "after"));
    }));

  test("has each of its connections counted at the connector", () =>
    it.deployment.explain(async () => {
      const opened = async () =>
        counterOf(await it.connector.metrics(), "ztna_connector_tcp_sessions_total");
      const page = ["curl", "-sS", "--max-time", "10", ...byIpv4.forwarded.curl("/hello")];
      const before = await opened();

      await Promise.all(Array.from({ length: 20 }, () => must(page)));

      const all = async () => ((await opened()) === before + 20 ? true : undefined);
      await eventually("each counts once", { withinMs: 5000 }, all);
    }));

  test.each([
    { name: "a service that is not granted", service: "other-service", port: 80 },
    { name: "a port that the service does not have", service: SERVICE, port: 81 },
  ])("refuses $name by SOCKS5", ({ service, port }) =>
    it.deployment.explain(async () => {
      const attempt = socksConnect(it.socks, service, port);

      await expect(attempt).rejects.toBeInstanceOf(SocksRefusal);
    }),
  );
});

async function startAgent(name: string, host: string): Promise<LocalWays> {
  const { deployment, relayAddress } = it;
  await deployment.issue("agent", name, "--service", SERVICE);
  const ways = await LocalWays.choose(host);
  const spec = agentSpec(deployment, name, relayAddress);
  const agent = await deployment.add({ ...spec, arguments: ways.arguments });
  await agent.ready();
  return ways;
}

async function speakAfterSilence(client: TcpClient): Promise<string> {
  await client.write("before");
  await client.read("before".length);
  await Bun.sleep(SILENT_SECONDS * 1000);
  await client.write("after");
  const words = (await client.read("after".length)).toString();
  client.close();
  return words;
}

function curlOf(way: LocalWay, path: string): string {
  return ["curl", "-sS", "--max-time", "600", ...way.curl(path)].join(" ");
}

async function shell(script: string): Promise<string> {
  const { code, stdout, stderr } = await run(["bash", "-c", `set -o pipefail; ${script}`]);
  if (code !== 0) throw new Error(`${script} ended with ${code}: ${stderr}`);
  return stdout;
}
