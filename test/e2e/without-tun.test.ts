/** What applications see of an agent without TUN: local ports and SOCKS5. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { digestOf, pattern, patternDigest, patternStream } from "../support/pattern.ts";
import { run } from "../support/process.ts";
import { LONG, scaled } from "../support/scale.ts";
import {
  SERVICE,
  SERVICE_PORTS,
  type SimpleDeployment,
  startSimpleDeployment,
} from "../support/simple-deployment.ts";
import {
  SocksRefusal,
  socksAssociate,
  socksConnect,
  socksDatagram,
} from "../support/socks-client.ts";
import { TcpClient } from "../support/tcp-client.ts";
import { UdpClient } from "../support/udp-client.ts";

const BIG = scaled(1024 ** 3);
const PARALLEL = scaled(200);
const DATAGRAM_STEP = LONG ? 1 : 10;
/** Longer than a tunnel may be idle; a shorter run shows the application's part alone. */
const SILENT_SECONDS = LONG ? 200 : 20;

let it: SimpleDeployment;
/** Runs beside the other tests, since nothing happens in it. */
let silence: Promise<readonly string[]>;

beforeAll(async () => {
  it = await startSimpleDeployment();
  silence = Promise.all([
    TcpClient.open("127.0.0.1", it.forwards.echo).then(speakAfterSilence),
    socksConnect(it.socks, SERVICE, SERVICE_PORTS.echo).then(speakAfterSilence),
  ]);
  // What fails is told by the test that waits for it.
  silence.catch(() => undefined);
});
afterAll(() => it.deployment.remove());

describe("an agent without TUN", () => {
  test("curl gets a page through a forwarded port", () =>
    it.deployment.explain(async () => {
      const { code, stdout } = await run(["curl", "-sS", "--max-time", "10", url("/hello")]);

      expect({ code, stdout }).toEqual({ code: 0, stdout: "hello from the backend\n" });
    }));

  test("curl gets a page through SOCKS5 by the service's name", () =>
    it.deployment.explain(async () => {
      const proxy = `socks5h://${it.socks.host}:${it.socks.port}`;
      const target = `http://${SERVICE}:${SERVICE_PORTS.http}/hello`;
      const result = await run(["curl", "-sS", "--max-time", "10", "--proxy", proxy, target]);

      expect(result).toEqual({ code: 0, stdout: "hello from the backend\n", stderr: "" });
    }));

  test("a big download arrives whole", () =>
    it.deployment.explain(async () => {
      const response = await fetch(url(`/bytes/${BIG}`));

      expect(await digestOf(response.body)).toEqual({ length: BIG, digest: patternDigest(BIG) });
    }));

  test("a big upload arrives whole", () =>
    it.deployment.explain(async () => {
      const response = await fetch(url("/digest"), { method: "POST", body: patternStream(BIG) });

      expect(await response.json()).toEqual({ length: BIG, digest: patternDigest(BIG) });
    }));

  test("many downloads side by side arrive whole", () =>
    it.deployment.explain(async () => {
      const length = 1_000_000;
      const downloads = Array.from({ length: PARALLEL }, async () =>
        digestOf((await fetch(url(`/bytes/${length}`))).body),
      );

      const whole = { length, digest: patternDigest(length) };
      expect(await Promise.all(downloads)).toEqual(Array(PARALLEL).fill(whole));
    }));

  test("a client that has finished still gets the answer", () =>
    it.deployment.explain(async () => {
      const client = await TcpClient.open("127.0.0.1", it.forwards.digest);
      const length = 3_000_000;
      for (const block of pattern(length)) await client.write(block);
      client.finish();

      const answer = (await client.readToEnd()).toString();
      expect(answer).toBe(`${length} ${patternDigest(length)}\n`);
    }));

  test("a long conversation keeps its order through a forwarded port and SOCKS5", () =>
    it.deployment.explain(async () => {
      const clients = [
        await TcpClient.open("127.0.0.1", it.forwards.echo),
        await socksConnect(it.socks, SERVICE, SERVICE_PORTS.echo),
      ];
      for (const client of clients) {
        for (let turn = 0; turn < 500; turn += 1) {
          const words = Buffer.from(`turn ${turn} ${"x".repeat(turn)}`);
          await client.write(words);
          expect(await client.read(words.length)).toEqual(words);
        }
        client.finish();
        expect(await client.readToEnd()).toHaveLength(0);
      }
    }));

  test("datagrams of every size come back as they were, above the path's MTU too", () =>
    it.deployment.explain(async () => {
      const client = await UdpClient.open("127.0.0.1", it.forwards.udp);
      for (let size = 0; size <= 1400; size += DATAGRAM_STEP) {
        await client.echo(Buffer.alloc(size, size % 251));
      }
      for (const size of [1401, 4096, 9000, 9216]) await client.echo(Buffer.alloc(size, 7));
      client.close();
    }));

  test("datagrams pass through SOCKS5", () =>
    it.deployment.explain(async () => {
      const { control, relay } = await socksAssociate(it.socks);
      const client = await UdpClient.open(relay.host, relay.port);
      const payload = Buffer.from("a datagram by name");
      const datagram = socksDatagram(SERVICE, SERVICE_PORTS.udp, payload);

      // Sent again until it is answered: the first ones may be ahead of the session.
      const answer = await eventually("an answer", { withinMs: 5000, everyMs: 100 }, () => {
        client.send(datagram);
        return client.received[0];
      });

      expect(answer.subarray(-payload.length)).toEqual(payload);
      control.close();
      client.close();
    }));

  test("a connection that was silent for long carries data again", () =>
    it.deployment.explain(async () => {
      expect(await silence).toEqual(["after", "after"]);
    }));

  test.each([
    { name: "a service that is not granted", service: "other-service", port: 80 },
    { name: "a port that the service does not have", service: SERVICE, port: 81 },
  ])("SOCKS5 refuses $name", ({ service, port }) =>
    it.deployment.explain(async () => {
      const attempt = socksConnect(it.socks, service, port);

      await expect(attempt).rejects.toBeInstanceOf(SocksRefusal);
    }),
  );
});

async function speakAfterSilence(client: TcpClient): Promise<string> {
  await client.write("before");
  await client.read("before".length);
  await Bun.sleep(SILENT_SECONDS * 1000);
  await client.write("after");
  const words = (await client.read("after".length)).toString();
  client.close();
  return words;
}

function url(path: string): string {
  return `http://127.0.0.1:${it.forwards.http}${path}`;
}
