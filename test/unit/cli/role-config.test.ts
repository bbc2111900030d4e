import { describe, expect, test } from "bun:test";
import { ERROR_CODES } from "../../../src/base/error.ts";
import { environmentName } from "../../../src/cli/load-config.ts";
import { loadRoleConfig, ROLE_NAMES, schemaOf } from "../../../src/cli/role-config.ts";
import { ROLE_FLAGS } from "../../../src/cli/role-flags.ts";
import { leafPaths } from "../../../src/cli/schema-keys.ts";

describe.each([...ROLE_NAMES])("configuration of the %s", (role) => {
  const example = `deploy/config/${role}.yaml`;
  const load = (environment: Record<string, string> = {}) =>
    loadRoleConfig(role, { file: example, flags: new Map(), environment });

  test("the example is valid", async () => {
    const { config, warnings } = await load();

    expect(config.certificate).toBe(`/etc/ztna/${role}.crt`);
    expect(warnings).toEqual([]);
  });

  test("the example explains every key, with its default where there is one", async () => {
    const text = await Bun.file(example).text();

    const paths = leafPaths(await schemaOf(role));
    const unexplained = paths.filter((path) => {
      const key = path.split(".").at(-1);
      return !new RegExp(`(^|[\\s#{\`])${key}:`, "m").test(text);
    });
    expect(unexplained).toEqual([]);
  });

  test("every flag sets a key that there is", async () => {
    const paths = leafPaths(await schemaOf(role));

    const { flags } = ROLE_FLAGS[role];
    expect(flags.filter(({ key }) => !paths.includes(key))).toEqual([]);
  });

  test("every name of the predecessor leads to a flag or key that there is", async () => {
    const paths = leafPaths(await schemaOf(role));
    const { flags, renamedFlags, renamedKeys } = ROLE_FLAGS[role];

    const known = flags.map(({ flag }) => flag.split(" ")[0]);
    const written = Object.values(renamedFlags).map((it) => it.split(" ")[0]);
    expect(written.filter((it) => it !== "nothing:" && !known.includes(it))).toEqual([]);
    expect(Object.values(renamedKeys).filter((it) => !paths.includes(it))).toEqual([]);
  });

  test("no two keys share a variable", async () => {
    const names = leafPaths(await schemaOf(role)).map(environmentName);

    expect(new Set(names).size).toBe(names.length);
  });

  test("lists and nested keys come from the environment", async () => {
    const { config, origins } = await load({
      ZTNA_LISTEN: "127.0.0.1:1,[::1]:2",
      ZTNA_METRICS_LISTEN: "off",
    });

    expect(config).toMatchObject({
      listen: ["127.0.0.1:1", "[::1]:2"],
      metrics: { listen: "off" },
    });
    expect(origins.get("listen")).toBe("environment ZTNA_LISTEN");
  });
});

describe("a connector on the command line", () => {
  test("provides one service without a file", async () => {
    const { config } = await loadRoleConfig("connector", {
      file: undefined,
      environment: {},
      flags: new Map<string, string | string[]>([
        ["relay", ["relay.example:4433"]],
        ["service", "echo-service"],
        ["backend", ["127.0.0.1:8080"]],
        ["certificate", "a"],
        ["key", "b"],
        ["ca", "c"],
      ]),
    });

    expect(config).toMatchObject({
      relays: ["relay.example:4433"],
      service: "echo-service",
      backend: ["127.0.0.1:8080"],
    });
  });

  test("a flag that cannot be is named, and so is what is missing", async () => {
    const failing = loadRoleConfig("connector", {
      file: undefined,
      environment: {},
      flags: new Map<string, string | string[]>([
        ["relay", ["relay.example"]],
        ["certificate", "a"],
        ["key", "b"],
        ["ca", "c"],
      ]),
    });

    await expect(failing).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(
        /^--relay: expected a host and a port, .*, is "relay.example"\n {2}and services: expected /,
      ),
    });
  });
});

describe("error codes", () => {
  test("each is explained in docs/errors.md, and nothing else is", async () => {
    const text = await Bun.file("docs/errors.md").text();

    const explained = [...text.matchAll(/^## (.+)$/gm)].map(([, code]) => code);
    expect(explained).toEqual([...ERROR_CODES]);
  });

  test("those of the data plane are among them", async () => {
    const text = await Bun.file("native/crates/ztna-dataplane/src/error.rs").text();

    const codes = [...text.matchAll(/=> "([A-Z_]+)"/g)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(5);
    expect(codes.filter((code) => !ERROR_CODES.some((it) => it === code))).toEqual([]);
  });
});
