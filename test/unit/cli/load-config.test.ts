import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { CONFIG_BYTES_MAX } from "../../../src/cli/config-file.ts";
import {
  environmentName,
  type FlagValue,
  type LoadConfigOptions,
  type LoadedConfig,
  loadConfig,
} from "../../../src/cli/load-config.ts";
import { printConfig } from "../../../src/cli/print-config.ts";

describe("load config", () => {
  test.each([
    { name: "a default stands where nothing is set", expected: "0.0.0.0:1" },
    { name: "a file displaces the default", file: "listen: f:1", expected: "f:1" },
    {
      name: "the environment displaces the file",
      file: "listen: f:1",
      variable: "e:1",
      expected: "e:1",
    },
    {
      name: "a flag displaces all",
      file: "listen: f:1",
      variable: "e:1",
      flag: "g:1",
      expected: "g:1",
    },
  ])("$name", ({ file, variable, flag, expected }) => {
    const { config } = load({
      file,
      environment: { ZTNA_LISTEN: variable },
      given: flag === undefined ? [] : [["listen", flag]],
    });

    expect(config.listen).toBe(expected);
  });

  test("sources are joined key by key, lists whole", () => {
    const { config } = load({
      file: "metrics: {listen: 'a:1', hosts: [x, y]}\nrelays: [one, two]",
      environment: { ZTNA_METRICS_LISTEN: "b:2" },
      given: [["relays", ["three"]]],
    });

    expect(config).toMatchObject({
      metrics: { listen: "b:2", hosts: ["x", "y"] },
      relays: ["three"],
    });
  });

  test.each([
    { name: "a number", variable: "ZTNA_LIMITS_FLOWS_MAX", text: "12", expected: 12 },
    { name: "a truth value", variable: "ZTNA_STRICT", text: "true", expected: true },
    { name: "a list by commas", variable: "ZTNA_RELAYS", text: "a, b", expected: ["a", "b"] },
    { name: "an empty list", variable: "ZTNA_RELAYS", text: "", expected: [] },
    { name: "digits as text", variable: "ZTNA_NAME", text: "12", expected: "12" },
    { name: "YAML", variable: "ZTNA_SERVICES", text: "[{name: a}]", expected: [{ name: "a" }] },
  ])("reads $name from the environment", ({ variable, text, expected }) => {
    const { config } = load({ environment: { [variable]: text } });

    expect(Object.values<unknown>({ ...config, ...config.limits })).toContainEqual(expected);
  });

  test("each variable is named after its key", () => {
    expect(environmentName("limits.flowsPerTunnelMax")).toBe("ZTNA_LIMITS_FLOWS_PER_TUNNEL_MAX");
  });

  test("the result cannot be changed, down to its lists", () => {
    const { config } = load({ file: "relays: [a]" });

    expect(Object.isFrozen(config)).toBe(true);
    expect(() => (config.relays as string[]).push("b")).toThrow(TypeError);
  });

  test.each([
    {
      name: "a key that is nearly one",
      file: "lissten: a",
      message: "PATH: lissten: no such key",
      hint: "Did you mean listen?",
    },
    {
      name: "a nested key that is nearly one",
      file: "limits: {flowMax: 1}",
      message: "PATH: limits.flowMax: no such key",
      hint: "Did you mean flowsMax?",
    },
    {
      name: "a key inside a list",
      file: "services: [{name: a}, {nam: b}]",
      message: "PATH: services.1.nam: no such key",
      hint: "Did you mean name?",
    },
    {
      name: "a key of the predecessor",
      file: "cert_path: a",
      message: "PATH: cert_path: no such key",
      hint: "It is called certificate.",
    },
    {
      name: "a key like no other",
      file: "metrics: {zzz: 1}",
      message: "PATH: metrics.zzz: no such key",
      hint: "Known here are listen, hosts.",
    },
    {
      name: "a value of the wrong type",
      file: "limits: {flowsMax: many}",
      message: 'PATH: limits.flowsMax: expected number, is "many"',
    },
    {
      name: "two wrong values at once",
      file: "strict: 1\nlisten: 2",
      message: "PATH: listen: expected string, is 2\n  and PATH: strict: expected boolean, is 1",
    },
    {
      name: "a secret of the wrong type, unseen",
      file: "adminToken: [hunter2]",
      message: "PATH: adminToken: expected string, is (redacted)",
    },
    { name: "a list", file: "- a", message: "PATH is no mapping of keys to values" },
    { name: "no YAML", file: "listen: a\nrelays: [a,\n", message: "PATH is not YAML near line 2" },
    {
      name: "one key twice",
      file: "listen: a\n# listen: b\nlisten: c",
      message: "PATH: listen stands on line 1 and on line 3",
    },
  ])("refuses $name", ({ file, message, hint }) => {
    const failure = failureOf({ file });

    expect(failure).toMatchObject({
      code: "CONFIG_INVALID",
      message: message.replaceAll("PATH", path()),
      ...(hint === undefined ? {} : { hint }),
    });
  });

  test("a key that nothing sets is missing, and the hint says how to set it", () => {
    expect(failureOf({ file: "strict: true", required: true })).toMatchObject({
      code: "CONFIG_INVALID",
      message: `${path()}: certificate: is missing`,
      hint: "Set certificate in the configuration file, ZTNA_CERTIFICATE or --certificate.",
    });
  });

  test("a wrong variable is named", () => {
    expect(failureOf({ environment: { ZTNA_LIMITS_FLOWS_MAX: "12x" } })).toMatchObject({
      code: "CONFIG_INVALID",
      message: 'ZTNA_LIMITS_FLOWS_MAX: expected number, is "12x"',
    });
  });

  test("a wrong flag is a wrong command line", () => {
    expect(failureOf({ given: [["limits.flowsMax", "-1"]] })).toMatchObject({
      code: "USAGE",
      message: "--flows-max: too small: expected number to be >=0, is -1",
    });
  });

  test("a variable that is nearly one of ours draws a warning; those of others draw none", () => {
    const { warnings } = load({
      environment: {
        ZTNA_LISTN: "a",
        ZTNA_PORT_4433_UDP_PROTO: "udp",
        ZTNA_SERVICE_HOST: "10.0.0.1",
      },
    });

    expect(warnings).toEqual(["warning: ZTNA_LISTN sets nothing, did you mean ZTNA_LISTEN?"]);
  });

  test("a file of comments sets nothing", () => {
    expect(load({ file: "# listen: a\n" }).config.listen).toBe("0.0.0.0:1");
  });

  test("a file may be as large as the maximum and no larger", () => {
    const comment = (bytes: number) => `#${"x".repeat(bytes - 1)}`;

    expect(load({ file: comment(CONFIG_BYTES_MAX) }).config.listen).toBe("0.0.0.0:1");
    expect(failureOf({ file: comment(CONFIG_BYTES_MAX + 1) })).toMatchObject({
      code: "CONFIG_INVALID",
    });
  });

  test("a file that is not there is unreadable", () => {
    expect(failureOf({ absentFile: "/nonexistent.yaml" })).toMatchObject({
      code: "FILE_UNREADABLE",
      message: "cannot read the configuration /nonexistent.yaml",
    });
  });
});

describe("print config", () => {
  test("shows each value with its origin and no secret", () => {
    const { config, origins } = load({
      file: "metrics: {listen: 'a:1'}\nadminToken: hunter2\ncertificate: |\n  -----BEGIN PRIVATE KEY-----",
      environment: { ZTNA_NAME: "n" },
      given: [["relays", ["r"]]],
    });

    const lines = printConfig(config, origins)
      .split("\n")
      .map((it) => it.replace(/ +#/, " #"));

    expect(lines).toContain('name: "n" # environment ZTNA_NAME');
    expect(lines).toContain('relays: ["r"] # flag --relay');
    expect(lines).toContain(`  listen: "a:1" # file ${path()}`);
    expect(lines).toContain("strict: false # default");
    expect(lines).toContain(`adminToken: "(redacted)" # file ${path()}`);
    expect(lines).toContain(`certificate: "(redacted)" # file ${path()}`);
  });

  test("what it prints can be read back", () => {
    const { config, origins } = load({ file: "metrics: {listen: 'a:1'}\nservices: [{name: a}]" });

    expect(Bun.YAML.parse(printConfig(config, origins))).toEqual(
      JSON.parse(JSON.stringify(config)),
    );
  });
});

const schema = z.object({
  listen: z.string().default("0.0.0.0:1"),
  certificate: z.string().optional(),
  name: z.string().optional(),
  adminToken: z.string().optional(),
  strict: z.boolean().default(false),
  relays: z.array(z.string()).default([]),
  services: z.array(z.object({ name: z.string() })).default([]),
  metrics: z
    .object({ listen: z.string().default("m:1"), hosts: z.array(z.string()).default([]) })
    .prefault({}),
  limits: z.object({ flowsMax: z.number().min(0).default(5) }).prefault({}),
});

interface Situation {
  readonly file?: string | undefined;
  readonly absentFile?: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly given?: readonly (readonly [string, FlagValue])[];
  readonly required?: boolean;
}

function optionsOf(situation: Situation): LoadConfigOptions<typeof schema> {
  const { file, absentFile, environment = {}, given = [], required = false } = situation;
  if (file !== undefined) writeFileSync(path(), file);
  const demanding = schema.extend({ certificate: z.string() });
  return {
    schema: (required ? demanding : schema) as typeof schema,
    flags: [
      { flag: "--listen <address>", key: "listen", help: "" },
      { flag: "--relay <address>", key: "relays", help: "", repeats: true },
      { flag: "--flows-max <count>", key: "limits.flowsMax", help: "" },
      { flag: "--certificate <file>", key: "certificate", help: "" },
    ],
    given: new Map(given),
    environment,
    file: absentFile ?? (file === undefined ? undefined : path()),
    renamedKeys: { cert_path: "certificate" },
  };
}

function load(situation: Situation): LoadedConfig<z.output<typeof schema>> {
  return loadConfig(optionsOf(situation));
}

function failureOf(situation: Situation): unknown {
  try {
    return load(situation);
  } catch (error) {
    return error;
  }
}

let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ztna-config-"));
});

afterEach(() => rmSync(directory, { recursive: true }));

function path(): string {
  return join(directory, "relay.yaml");
}
