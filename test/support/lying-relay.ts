/**
 * A relay that is what it should be, except that it lies about its peers' certificates.
 *
 * What its state machine is told of a leaf is not what the handshake proved, so it registers, grants
 * and hands out whoever the test wants. The agent and the connector behind it are the real ones.
 */
import { createLogger } from "../../src/observability/logger.ts";
import { relayConfigSchema } from "../../src/relay/relay-config.ts";
import { type RunningRelay, startRelay } from "../../src/relay/relay-server.ts";
import type { EndpointEvent, LeafInfo, OpenEndpoint } from "../../src/transport/endpoint.ts";
import { openNativeEndpoint } from "../../src/transport/native-endpoint.ts";
import { systemClock } from "../../src/transport/system-clock.ts";
import type { Deployment } from "./deployment.ts";

export type Lie = (leaf: LeafInfo) => LeafInfo;

export class LyingRelay {
  /** What it logged. */
  readonly lines: string[];
  readonly #relay: RunningRelay;

  private constructor(relay: RunningRelay, lines: string[]) {
    this.#relay = relay;
    this.lines = lines;
  }

  /** @param name of its certificate and of its files. */
  static async start(
    deployment: Deployment,
    { name, listen, lie }: { readonly name: string; readonly listen: string; readonly lie: Lie },
  ): Promise<LyingRelay> {
    const lines: string[] = [];
    const config = relayConfigSchema.parse({
      listen: [listen],
      certificate: deployment.file(`${name}.crt`),
      key: deployment.file(`${name}.key`),
      ca: deployment.file("ca.crt"),
      dataDir: deployment.file(`${name}-data`),
      metrics: { listen: "off" },
    });
    const output = {
      write: (line: string) => void lines.push(line),
      dropped: 0,
      onResumed: () => {},
      flush: async () => {},
    };
    const relay = await startRelay(config, {
      openEndpoint: lying(lie),
      clock: systemClock,
      wallClock: () => new Date(),
      logger: createLogger({ level: "info", role: "relay", output, pretty: false }),
    });
    return new LyingRelay(relay, lines);
  }

  stop(): Promise<void> {
    return this.#relay.stop("the test is over");
  }
}

function lying(lie: Lie): OpenEndpoint {
  const lieAbout = (event: EndpointEvent): EndpointEvent =>
    event.type === "handshake" ? { ...event, leaf: lie(event.leaf) } : event;
  return (options, onEvents) =>
    openNativeEndpoint(options, (events) => onEvents(events.map(lieAbout)));
}
