/** Whether something takes TCP connections: the connector's health check. */
import { connect } from "node:net";
import { formatIp, parseSocketAddress } from "../protocol/address.ts";

/** Resolves with whether "ip:port" took a connection in time; never rejects. */
export function takesConnections(address: string, timeoutMs: number): Promise<boolean> {
  const parsed = parseSocketAddress(address);
  if (parsed === undefined) return Promise.resolve(false);

  const { ip, port } = parsed;
  return new Promise((resolve) => {
    const socket = connect({ host: formatIp(ip), port });
    const settle = (taken: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(taken);
    };
    const timer = setTimeout(() => settle(false), timeoutMs);
    socket.once("connect", () => settle(true));
    socket.once("error", () => settle(false));
  });
}
