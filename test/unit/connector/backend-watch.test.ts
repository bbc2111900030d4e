import { describe, expect, test } from "bun:test";
import { seconds } from "../../../src/base/time.ts";
import { type BackendEvent, BackendWatch } from "../../../src/connector/backend-watch.ts";
import type { ConfiguredService } from "../../../src/connector/connector-config.ts";
import type { BackendService } from "../../../src/transport/endpoint.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

describe("backend watch", () => {
  test("publishes the addresses of names and whether something answers", async () => {
    const bench = new Bench();
    bench.names.set("web.internal", ["10.0.0.1", "10.0.0.2"]);
    bench.listening.add("10.0.0.2:80");

    await bench.start(service("tcp", "web.internal:80"));

    expect(bench.latest).toEqual([
      {
        name: "web",
        ports: [{ protocol: "tcp", port: 443, addresses: ["10.0.0.1:80", "10.0.0.2:80"] }],
        healthy: true,
        idleMs: 60_000,
      },
    ]);
    expect(bench.watch.healthyServices).toBe(1);
  });

  test("an address needs no resolver", async () => {
    const bench = new Bench();

    await bench.start(service("tcp", "[2001:db8::1]:80"));

    expect(bench.latest[0]?.ports[0]?.addresses).toEqual(["[2001:db8::1]:80"]);
    expect(bench.resolved).toEqual([]);
  });

  test("a name that does not resolve keeps its last addresses", async () => {
    const bench = new Bench();
    bench.names.set("web.internal", ["10.0.0.1"]);
    await bench.start(service("tcp", "web.internal:80"));

    bench.names.delete("web.internal");
    await bench.advance(60);

    expect(bench.latest[0]?.ports[0]?.addresses).toEqual(["10.0.0.1:80"]);
    expect(bench.events).toContainEqual({
      ...{ type: "resolution-failed", backend: "web.internal:80", detail: "ENOTFOUND" },
    });
  });

  test("a name that moved is followed", async () => {
    const bench = new Bench();
    bench.names.set("web.internal", ["10.0.0.1"]);
    await bench.start(service("tcp", "web.internal:80"));

    bench.names.set("web.internal", ["10.0.0.9"]);
    await bench.advance(60);

    expect(bench.latest[0]?.ports[0]?.addresses).toEqual(["10.0.0.9:80"]);
  });

  test("tells when a backend goes down and comes up again", async () => {
    const bench = new Bench();
    bench.listening.add("10.0.0.1:80");
    await bench.start(service("tcp", "10.0.0.1:80"));

    bench.listening.clear();
    await bench.advance(6);
    expect(bench.latest[0]?.healthy).toBe(false);

    bench.listening.add("10.0.0.1:80");
    await bench.advance(6);
    expect(bench.latest[0]?.healthy).toBe(true);
    const changes = bench.events.filter(({ type }) => type === "up" || type === "down");
    expect(changes.map(({ type }) => type)).toEqual(["up", "down", "up"]);
  });

  test("a UDP backend that resolves is assumed alive", async () => {
    const bench = new Bench();

    await bench.start(service("udp", "10.0.0.1:53"));

    expect(bench.latest[0]?.healthy).toBe(true);
    expect(bench.probed).toEqual([]);
  });

  test("publishes nothing while nothing changes", async () => {
    const bench = new Bench();
    bench.listening.add("10.0.0.1:80");
    await bench.start(service("tcp", "10.0.0.1:80"));
    const published = bench.published.length;

    await bench.advance(60);

    expect(bench.published.length).toBe(published);
  });

  test("a backend that is not provided any more is left alone", async () => {
    const bench = new Bench();
    await bench.start(service("tcp", "10.0.0.1:80"));

    bench.watch.setServices([]);
    const probed = bench.probed.length;
    await bench.advance(60);

    expect(bench.latest).toEqual([]);
    expect(bench.probed.length).toBe(probed);
  });

  test("a stopped watch says and asks nothing", async () => {
    const bench = new Bench();
    await bench.start(service("tcp", "10.0.0.1:80"));

    bench.watch.stop();
    const published = bench.published.length;
    await bench.advance(60);

    expect(bench.published.length).toBe(published);
  });
});

class Bench {
  readonly clock = new VirtualClock();
  readonly names = new Map<string, string[]>();
  readonly listening = new Set<string>();
  readonly resolved: string[] = [];
  readonly probed: string[] = [];
  readonly published: (readonly BackendService[])[] = [];
  readonly events: BackendEvent[] = [];
  readonly watch = new BackendWatch({
    clock: this.clock,
    ...{ checkMs: 5000, resolveMs: 30_000, timeoutMs: 2000 },
    resolveHost: (host) => {
      this.resolved.push(host);
      const found = this.names.get(host);
      return found === undefined ? Promise.reject(new Error("ENOTFOUND")) : Promise.resolve(found);
    },
    connect: (address) => {
      this.probed.push(address);
      return Promise.resolve(this.listening.has(address));
    },
    onChange: (services) => this.published.push(services),
    onEvent: (event) => this.events.push(event),
  });

  get latest(): readonly BackendService[] {
    return this.published.at(-1) ?? [];
  }

  async start(configured: ConfiguredService): Promise<void> {
    this.watch.setServices([configured]);
    await settled();
  }

  async advance(forSeconds: number): Promise<void> {
    for (let second = 0; second < forSeconds; second++) {
      this.clock.advance(seconds(1));
      await settled();
    }
  }
}

/** Lets what waits for promises that are settled go on. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

function service(protocol: "tcp" | "udp", backend: string): ConfiguredService {
  return {
    ...{ name: "web", weight: 100, idleMs: 60_000, ports: [{ protocol, port: 443 }] },
    backends: [{ protocol, port: 443, backend }],
  };
}
