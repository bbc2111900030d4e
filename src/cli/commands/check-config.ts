/** `ztna check-config ROLE FILE`: would this start? Nothing is bound, sent or written. */
import { OperatorError } from "../../base/error.ts";
import { describeCertificates } from "../../pki/describe-certificate.ts";
import { readText } from "../../pki/files.ts";
import { loadTlsFiles } from "../../transport/tls-files.ts";
import { hasFlag, type Invocation } from "../command.ts";
import { ExitCode } from "../exit.ts";
import { type CommonConfig, loadRoleConfig, requireRole } from "../role-config.ts";
import type { RoleName } from "../role-flags.ts";

export async function checkConfig(invocation: Invocation): Promise<ExitCode> {
  const [roleText = "", file = ""] = invocation.arguments;
  const role = requireRole(roleText);
  const { console } = invocation;

  const { config, warnings } = await loadRoleConfig(role, {
    file,
    flags: new Map(),
    environment: console.environment,
  });
  for (const warning of warnings) console.stderr.write(`${warning}\n`);

  if (!hasFlag(invocation, "config-only")) requireCertificateOf(role, config);
  console.stdout.write(`${file}: ok\n`);
  return ExitCode.Ok;
}

function requireCertificateOf(role: RoleName, config: CommonConfig): void {
  const now = new Date();
  loadTlsFiles(config, now);
  const [leaf] = describeCertificates(readText(config.certificate), now, config);
  const verdict = leaf?.verdict;
  if (verdict === undefined || verdict.as === role) return;

  const found =
    verdict.as === "nobody" ? `nobody (${verdict.reason}): ${verdict.detail}` : verdict.as;
  throw new OperatorError(
    "CERTIFICATE_INVALID",
    `the certificate ${config.certificate} proves ${found}, a ${role} is asked for`,
    { hint: `Issue one with \`ztna pki issue ${role} NAME\`.` },
  );
}
