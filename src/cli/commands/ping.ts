/**
 * `ztna ping SERVICE`: the round trip to the connector, through the path that traffic takes.
 *
 * Succeeds when at least one answer came.
 */
import { requestPing } from "../../agent/control-client.ts";
import type { PingLine, PingRequest } from "../../agent/ping.ts";
import { OperatorError } from "../../base/error.ts";
import { hasFlag, type Invocation, textFlag } from "../command.ts";
import { controlSocketOf } from "../control-socket-path.ts";
import { ExitCode } from "../exit.ts";
import { formatPath, formatRtt } from "../text.ts";

export async function ping(invocation: Invocation): Promise<ExitCode> {
  const [service = ""] = invocation.arguments;
  const { stdout, environment } = invocation.console;
  const request = requestOf(service, invocation);
  const socket = await controlSocketOf(textFlag(invocation, "control-socket"), environment);
  const asJson = hasFlag(invocation, "json");

  const lines: PingLine[] = [];
  for await (const line of requestPing(socket, request)) {
    lines.push(line);
    const text = asJson ? undefined : lineText(line);
    if (text !== undefined) stdout.write(`${text}\n`);
  }
  stdout.write(
    asJson ? `${JSON.stringify(jsonOf(service, lines))}\n` : summaryText(service, lines),
  );
  requireAnswer(service, lines);
  return ExitCode.Ok;
}

/** What the connector answers instead of 0 (`docs/protocol.md` §7). */
const ANSWERS: Readonly<Record<number, string>> = {
  1: "not available",
  2: "refused",
  3: "unreachable",
  4: "timed out",
  5: "limit exceeded",
  8: "not supported",
};

type Reply = Extract<PingLine, { readonly type: "reply" }>;

function requestOf(service: string, invocation: Invocation) {
  const [count, interval, size] = ["count", "interval", "size"].map((name) =>
    numberFlag(invocation, name),
  );
  return {
    service,
    ...(count === undefined ? {} : { count }),
    ...(interval === undefined ? {} : { intervalMs: Math.round(interval * 1000) }),
    ...(size === undefined ? {} : { size }),
  } satisfies Partial<PingRequest>;
}

function numberFlag(invocation: Invocation, name: string): number | undefined {
  const text = textFlag(invocation, name);
  if (text === undefined) return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  throw new OperatorError("USAGE", `--${name}: "${text}" is no number`);
}

function lineText(line: PingLine): string | undefined {
  switch (line.type) {
    case "reply": {
      if (line.rttUs === undefined) return `${line.sequence}: lost`;
      const path = line.path === undefined ? "" : ` ${formatPath(line.path)}`;
      return `${line.sequence}: ${formatRtt(line.rttUs)}${path}`;
    }
    case "refused":
      return `${line.sequence}: ${answerText(line.answer)}`;
    case "failed":
    case "summary":
      return undefined;
  }
}

function summaryText(service: string, lines: readonly PingLine[]): string {
  const summary = lines.find((it) => it.type === "summary");
  if (summary === undefined) return "";

  const { sent, received } = summary;
  const lost = sent === 0 ? 0 : Math.round((100 * (sent - received)) / sent);
  const rtt = rttOf(lines);
  const times =
    rtt === undefined
      ? ""
      : `, min ${formatRtt(rtt.min)}, mean ${formatRtt(rtt.mean)}, max ${formatRtt(rtt.max)}`;
  return `${service}: ${sent} sent, ${received} received, ${lost} % lost${times}\n`;
}

function jsonOf(service: string, lines: readonly PingLine[]) {
  const summary = lines.find((it) => it.type === "summary");
  return {
    version: 1,
    service,
    sent: summary?.sent ?? 0,
    received: summary?.received ?? 0,
    rttUs: rttOf(lines),
    lines: lines.filter((it) => it.type !== "summary"),
  };
}

function rttOf(lines: readonly PingLine[]) {
  const all = lines
    .filter((it): it is Reply => it.type === "reply")
    .flatMap(({ rttUs }) => rttUs ?? []);
  if (all.length === 0) return undefined;
  const mean = all.reduce((sum, it) => sum + it, 0) / all.length;
  return { min: Math.min(...all), mean, max: Math.max(...all) };
}

function requireAnswer(service: string, lines: readonly PingLine[]): void {
  if (lines.some((it) => it.type === "reply" && it.rttUs !== undefined)) return;

  const failed = lines.find((it) => it.type === "failed");
  const refused = lines.find((it) => it.type === "refused");
  const reason =
    failed !== undefined
      ? `${failed.code}: ${failed.reason}`
      : refused !== undefined
        ? answerText(refused.answer)
        : "no answer";
  throw new OperatorError("PING_FAILED", `${service} did not answer: ${reason}`, {
    hint: "See `ztna status`.",
  });
}

function answerText(answer: number): string {
  return ANSWERS[answer] ?? `answer ${answer}`;
}
