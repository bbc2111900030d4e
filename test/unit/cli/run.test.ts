import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../../src/cli/run.ts";
import { MemoryConsole } from "../../support/memory-console.ts";

describe("command line", () => {
  test("help goes to stdout and is a success", async () => {
    const { exitCode, stdout, stderr } = await ztna("--help");

    expect([exitCode, stderr]).toEqual([0, ""]);
    for (const name of ["relay", "connector", "agent", "pki", "status", "ping", "check-config"]) {
      expect(stdout).toMatch(new RegExp(`^  ${name}\\b`, "m"));
    }
  });

  test.each([{ argv: ["relay", "--help"] }, { argv: ["help", "relay"] }])(
    "$argv shows the flags of the role",
    async ({ argv }) => {
      const { exitCode, stdout } = await ztna(...argv);

      expect(exitCode).toBe(0);
      expect(stdout).toContain("--listen <address>");
    },
  );

  test.each([
    { name: "no command", argv: [], stderr: /^Usage: ztna/ },
    {
      name: "a command that is nearly one",
      argv: ["relya"],
      stderr: /^error\[USAGE\]: ztna has no command relya\n {2}hint: Did you mean relay\?\n$/,
    },
    {
      name: "a command like no other",
      argv: ["xyzzy"],
      stderr: /^error\[USAGE\]: ztna has no command xyzzy\n {2}hint: See `ztna --help`\.\n$/,
    },
    {
      name: "a nested command that is nearly one",
      argv: ["pki", "isue"],
      stderr: /^error\[USAGE\]: pki has no command isue\n {2}hint: Did you mean issue\?\n$/,
    },
    {
      name: "a flag that is nearly one",
      argv: ["pki", "init", "--ouut=1"],
      stderr: /^error\[USAGE\]: init has no flag --ouut\n {2}hint: Did you mean --out\?\n$/,
    },
    {
      name: "a flag of the predecessor's relay",
      argv: ["relay", "--port", "4433"],
      stderr: /relay has no flag --port\n {2}hint: Write --listen 0\.0\.0\.0:PORT\.\n$/,
    },
    {
      name: "a flag of the predecessor's connector",
      argv: ["connector", "--server", "a:1"],
      stderr: /connector has no flag --server\n {2}hint: Write --relay HOST:PORT\.\n$/,
    },
    {
      name: "a flag without its value",
      argv: ["pki", "init", "--out"],
      stderr: /^error\[USAGE\]: option '--out <dir>' argument missing\n/,
    },
    {
      name: "a missing argument",
      argv: ["pki", "show"],
      stderr: /^error\[USAGE\]: missing required argument 'file'\n/,
    },
    {
      name: "an argument too many",
      argv: ["version", "1"],
      stderr: /^error\[USAGE\]: too many arguments/,
    },
    {
      name: "an unknown role",
      argv: ["pki", "issue", "agnet", "alice"],
      stderr: /^error\[USAGE\]: "agnet" is no role\n {2}hint: Did you mean agent\?\n$/,
    },
    {
      name: "an unknown shell",
      argv: ["completion", "tcsh"],
      stderr: /there is no completion for "tcsh"\n {2}hint: Choose one of bash, zsh, fish\.\n$/,
    },
  ])("$name is a wrong command line", async ({ argv, stderr }) => {
    const result = await ztna(...argv);

    expect(result.exitCode).toBe(2);
    expect(result.stdout).toBe("");
    expect(result.stderr).toMatch(stderr);
  });

  test("prints its version for people and for scripts", async () => {
    expect((await ztna("version")).stdout).toMatch(/^ztna \d+\.\d+\.\d+\n$/);
    expect(JSON.parse((await ztna("version", "--json")).stdout)).toMatchObject({ version: 1 });
  });
});

describe("ztna pki", () => {
  test("makes an authority that certifies an agent, and shows what it may", async () => {
    await ztna("pki", "init", "--out", at("a"), "--trust-domain", "corp.example");

    const issued = await ztna(
      "pki",
      "issue",
      "agent",
      "alice",
      "--service",
      "echo",
      "--out",
      at("a"),
    );
    const { stdout } = await ztna("pki", "show", at("a/alice.crt"));

    expect(issued).toMatchObject({
      exitCode: 0,
      stdout: `${at("a/alice.crt")}\n${at("a/alice.key")}\n`,
    });
    expect(issued.stderr).toStartWith("ztna://corp.example/agent/alice, valid until ");
    expect(stdout).toContain("judged as    ztna://corp.example/agent/alice, may use echo\n");
    expect(statSync(at("a/ca.key")).mode & 0o777).toBe(0o600);
  });

  test("never prints a key", async () => {
    const texts = [
      await ztna("pki", "init", "--out", at("b")),
      await ztna("pki", "issue", "admin", "root", "--out", at("b")),
      await ztna("pki", "show", at("b/root.crt")),
      await ztna("pki", "show", at("b/root.crt"), "--json"),
      await ztna("pki", "show", at("b/root.key")),
    ];

    const key = await Bun.file(at("b/root.key")).text();
    const line = key.split("\n")[1] ?? "";
    expect(line.length).toBeGreaterThan(60);
    expect(texts.map(({ stdout, stderr }) => stdout + stderr).join("")).not.toContain(line);
    expect(texts.at(-1)?.exitCode).toBe(3);
  });

  test("keeps what exists unless it is told to replace it", async () => {
    const init = () => ztna("pki", "init", "--out", at("c"));
    await init();

    const again = await init();
    const forced = await ztna("pki", "init", "--out", at("c"), "--force");

    expect(again).toMatchObject({ exitCode: 3, stdout: "" });
    expect(again.stderr).toStartWith(`error[FILE_EXISTS]: ${at("c/ca.key")} exists\n`);
    expect(forced.exitCode).toBe(0);
  });

  test("a leaf never takes the place of its authority", async () => {
    await ztna("pki", "init", "--out", at("d"));

    const result = await ztna("pki", "issue", "admin", "ca", "--force", "--out", at("d"));

    expect(result).toMatchObject({ exitCode: 2 });
    expect(result.stderr).toContain(`${at("d/ca.key")} is the authority's`);
  });

  test("needs an authority", async () => {
    const result = await ztna("pki", "issue", "admin", "root", "--out", at("absent"));

    expect(result).toMatchObject({ exitCode: 3 });
    expect(result.stderr).toStartWith("error[FILE_UNREADABLE]: cannot read");
    expect(existsSync(at("absent"))).toBe(false);
  });

  test.each(["x", "-1", "1.5", "0", "7301"])("refuses to certify for %s days", async (days) => {
    const result = await ztna("pki", "init", "--out", at("never"), `--days=${days}`);

    expect(result).toMatchObject({ exitCode: 2 });
    expect(existsSync(at("never"))).toBe(false);
  });

  test("shows nothing of a file that holds no certificate", async () => {
    writeFileSync(at("secret"), "hunter2");

    const result = await ztna("pki", "show", at("secret"));

    expect(result).toMatchObject({ exitCode: 3, stdout: "" });
    expect(result.stderr).not.toContain("hunter2");
  });
});

describe("ztna relay", () => {
  test("prints its configuration with origins and starts nothing", async () => {
    const flags = ["--certificate", "a.crt", "--key", "a.key", "--ca", "ca.crt"];

    const { exitCode, stdout } = await ztna("relay", "--print-config", ...flags);

    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^certificate: "a\.crt" +# flag --certificate$/m);
    expect(stdout).toMatch(/^listen: \["0\.0\.0\.0:4433"\] +# default$/m);
  });

  test("says what is missing and how to set it", async () => {
    const { exitCode, stderr } = await ztna("relay");

    expect(exitCode).toBe(3);
    expect(stderr).toStartWith(
      "error[CONFIG_INVALID]: certificate: is missing\n  and key: is missing",
    );
    expect(stderr).toContain(
      "hint: Set certificate in the configuration file, ZTNA_CERTIFICATE or --certificate.\n",
    );
  });
});

describe("ztna check-config", () => {
  beforeAll(async () => {
    await ztna("pki", "init", "--out", at("check"));
    const out = ["--out", at("check")];
    await ztna("pki", "issue", "relay", "relay", "--host", "relay.example", ...out);
    await ztna("pki", "issue", "agent", "alice", "--service", "echo", ...out);
  });

  test.each([
    { name: "a relay with its certificate", certificate: "relay", exitCode: 0 },
    {
      name: "a relay with an agent's certificate",
      certificate: "alice",
      exitCode: 3,
      stderr: /^error\[CERTIFICATE_INVALID\]: .*alice\.crt proves agent, a relay is asked for\n/,
    },
    {
      name: "a relay with somebody else's key",
      certificate: "relay",
      key: "alice",
      exitCode: 3,
      stderr: /^error\[KEY_MISMATCH\]/,
    },
    {
      name: "a relay without certificate files",
      certificate: "absent",
      exitCode: 3,
      stderr: /^error\[FILE_UNREADABLE\]/,
    },
    {
      name: "the keys alone",
      certificate: "absent",
      flags: ["--config-only"],
      exitCode: 0,
    },
    {
      name: "a key that does not exist",
      certificate: "relay",
      more: { lisen: [] },
      exitCode: 3,
      stderr:
        /^error\[CONFIG_INVALID\]: .*: lisen: no such key\n {2}hint: Did you mean listen\?\n$/,
    },
  ])("judges $name", async ({ certificate, key = certificate, more, flags = [], ...expected }) => {
    const file = at("check/relay.yaml");
    const config = {
      certificate: at(`check/${certificate}.crt`),
      key: at(`check/${key}.key`),
      ca: at("check/ca.crt"),
      ...more,
    };
    writeFileSync(file, JSON.stringify(config));

    const { exitCode, stdout, stderr } = await ztna("check-config", "relay", file, ...flags);

    expect(exitCode).toBe(expected.exitCode as never);
    expect(stdout).toBe(exitCode === 0 ? `${file}: ok\n` : "");
    expect(stderr).toMatch(expected.stderr ?? /^$/);
  });

  test("knows the roles", async () => {
    const { exitCode, stderr } = await ztna("check-config", "realy", "relay.yaml");

    expect(exitCode).toBe(2);
    expect(stderr).toBe('error[USAGE]: "realy" is no role\n  hint: Did you mean relay?\n');
  });
});

let directory = "";

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ztna-run-"));
});

afterAll(() => rmSync(directory, { recursive: true }));

function at(name: string): string {
  return join(directory, name);
}

async function ztna(...argv: readonly string[]) {
  const console = new MemoryConsole();
  const exitCode = await run(argv, console);
  return { exitCode, stdout: console.stdout.text, stderr: console.stderr.text };
}
