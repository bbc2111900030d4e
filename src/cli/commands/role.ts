/** `ztna relay|connector|agent`: configuration in, a running role until something ends it. */
import { version } from "../../../package.json";
import { OperatorError } from "../../base/error.ts";
import { type HealthServer, startHealthServer } from "../../observability/health.ts";
import { createLogger, type Logger } from "../../observability/logger.ts";
import { createMetrics } from "../../observability/metrics.ts";
import type { OpenEndpoint } from "../../transport/endpoint.ts";
import { type Console, hasFlag, type Invocation, textFlag } from "../command.ts";
import { ExitCode } from "../exit.ts";
import { printConfig } from "../print-config.ts";
import { type CommonConfig, loadRoleConfig } from "../role-config.ts";
import type { RoleName } from "../role-flags.ts";
import { runUntilEnded, type Surroundings } from "../run-role.ts";
import { type StartedRole, startRole } from "../start-role.ts";

export async function runRole(role: RoleName, invocation: Invocation): Promise<ExitCode> {
  const { console, flags } = invocation;
  const file = textFlag(invocation, "config");
  const load = () => loadRoleConfig(role, { file, flags, environment: console.environment });
  const { config, origins, warnings } = await load();
  for (const warning of warnings) console.stderr.write(`${warning}\n`);
  if (hasFlag(invocation, "print-config")) {
    console.stdout.write(printConfig(config, origins));
    return ExitCode.Ok;
  }

  const log = loggerOf(role, config, console);
  const openEndpoint = await loadDataPlane(console);
  const started = await startRole(role, {
    config,
    reread: async () => (await load()).config,
    logger: log,
    openEndpoint,
    environment: console.environment,
  });
  try {
    const health = serveHealth(role, config, started, log);
    try {
      log.info("role started", { version, local: started.addresses.join(", ") });
      return await runUntilEnded(started, surroundingsOf(log));
    } finally {
      await health?.stop();
    }
  } catch (error) {
    // A role that serves nobody must not hold its sockets until the process is gone.
    await started.stop("start failed");
    throw error;
  } finally {
    await log.flush();
  }
}

function loadDataPlane({ loadDataPlane: load }: Console): Promise<OpenEndpoint> {
  if (load !== undefined) return load();
  throw new OperatorError("DATA_PLANE_UNAVAILABLE", "this build has no data plane", {
    hint: "Build it with `npm run build`.",
  });
}

function loggerOf(
  role: RoleName,
  { logLevel }: CommonConfig,
  { stdout, openLogs }: Console,
): Logger {
  const pretty = "isTTY" in stdout && stdout.isTTY === true;
  return createLogger({ level: logLevel, role, output: openLogs(), pretty });
}

function serveHealth(
  role: RoleName,
  { metrics }: CommonConfig,
  started: StartedRole,
  log: Logger,
): HealthServer | undefined {
  if (metrics.listen === "off") return undefined;

  const server = startHealthServer({
    listen: metrics.listen,
    allowedHosts: metrics.allowedHosts,
    metrics: createMetrics({ role, version, read: () => started.snapshot() }),
    notReady: () => started.notReady(),
  });
  log.info("metrics listening", { local: server.address });
  return server;
}

function surroundingsOf(log: Logger): Surroundings {
  return {
    log,
    wait: (wait) => Bun.sleep(wait),
    onSignal: (signal, handle) => {
      process.on(signal, handle);
      return () => process.off(signal, handle);
    },
  };
}
