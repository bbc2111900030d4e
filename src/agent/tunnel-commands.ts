/** What the agent's tunnels ask of the data plane, in the order in which it is to happen. */
import type { ConnectionHandle, EndpointCommand } from "../leg/endpoint-port.ts";
import type { RelayedPath } from "../leg/relayed-path.ts";
import { encodeControl } from "../protocol/control-codec.ts";
import type { TunnelMessage } from "../protocol/messages.ts";
import type { Pair } from "./tunnel-report.ts";

export class TunnelCommands {
  readonly #commands: EndpointCommand[] = [];

  push(command: EndpointCommand): void {
    this.#commands.push(command);
  }

  poll(): EndpointCommand | undefined {
    return this.#commands.shift();
  }

  openPath({ id }: Pair, path: RelayedPath): void {
    this.push({ type: "open-relayed-path", pair: id, ...path });
  }

  closeChannel(channel: string): void {
    this.push({ type: "close-channel", channel });
  }

  close(connection: ConnectionHandle, code: number, reason: string): void {
    this.push({ type: "close-connection", connection, code, reason });
  }

  /** Does nothing without a tunnel, as do the others. */
  grant({ tunnel }: Pair, service: string): void {
    if (tunnel === undefined) return;
    this.push({ type: "grant", tunnel: tunnel.connection, service });
  }

  revoke({ tunnel }: Pair, service: string, code: number): void {
    if (tunnel === undefined) return;
    this.push({ type: "revoke", tunnel: tunnel.connection, service, code });
  }

  send({ tunnel }: Pair, message: TunnelMessage): void {
    if (tunnel === undefined) return;
    const { connection } = tunnel;
    this.push({ type: "send-control", connection, frame: encodeControl(message) });
  }
}
