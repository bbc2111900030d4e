/**
 * Puts a role together: its configuration, the native data plane, clocks and log.
 *
 * The only place that knows all roles. Each is imported when it is started, and so is the data
 * plane, which no other command needs.
 */
import { version } from "../../package.json";
import type { Logger } from "../observability/logger.ts";
import type { MeasuredRole } from "../observability/metric-definitions.ts";
import type { MetricsSource } from "../observability/metrics.ts";
import type { OpenEndpoint } from "../transport/endpoint.ts";
import { systemClock } from "../transport/system-clock.ts";
import { controlSocketOf, ownUserId } from "./control-socket-path.ts";
import type { RoleConfigs } from "./role-config.ts";
import type { RoleName } from "./role-flags.ts";
import type { RunningRole } from "./run-role.ts";

export interface StartedRole extends RunningRole {
  readonly addresses: readonly string[];
  snapshot(): Promise<MetricsSource<MeasuredRole>>;
  /** Why it is not ready, or `undefined` when it is. */
  notReady(): string | undefined;
}

export interface StartOptions<R extends RoleName> {
  readonly config: RoleConfigs[R];
  /** Loads the configuration again, for a reload. */
  readonly reread: () => Promise<RoleConfigs[R]>;
  readonly logger: Logger;
  readonly openEndpoint: OpenEndpoint;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** @throws OperatorError when files, addresses or devices cannot be used. */
export async function startRole<R extends RoleName>(
  role: R,
  options: StartOptions<R>,
): Promise<StartedRole> {
  const running = await STARTS[role](options);
  return {
    addresses: running.addresses,
    failed: running.failed,
    stop: (reason) => running.stop(reason),
    reload: async () => running.reload(await options.reread()),
    snapshot: () => running.snapshot(),
    notReady: () => running.notReady(),
  };
}

/** What the roles have in common once they run. */
interface Reloadable<R extends RoleName> extends Omit<StartedRole, "reload"> {
  reload(config: RoleConfigs[R]): void;
}

const STARTS: {
  readonly [R in RoleName]: (options: StartOptions<R>) => Promise<Reloadable<R>>;
} = {
  relay: async (options) => {
    const { startRelay } = await import("../relay/relay-server.ts");
    return startRelay(options.config, dependenciesOf(options));
  },
  connector: async (options) => {
    const { startConnector } = await import("../connector/connector.ts");
    return startConnector(options.config, dependenciesOf(options));
  },
  agent: async (options) => {
    const { startAgent } = await import("../agent/agent.ts");
    return startAgent(options.config, {
      ...dependenciesOf(options),
      controlSocket: await controlSocketOf(undefined, options.environment),
      uid: ownUserId(),
    });
  },
};

function dependenciesOf({
  openEndpoint,
  logger,
}: Pick<StartOptions<RoleName>, "openEndpoint" | "logger">) {
  return {
    openEndpoint,
    logger,
    clock: systemClock,
    wallClock: () => new Date(),
    software: `ztna/${version}`,
  };
}
