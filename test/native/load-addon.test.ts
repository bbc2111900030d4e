/**
 * The loader of the addon, in processes of its own: each starts where native code must not come from.
 *
 * The executable is compiled from a small program that does nothing but load and report what it has
 * mapped, so that what is tested is the loader and not the product around it.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { must, run } from "../support/process.ts";

let folder: string;
let executable: string;

beforeAll(async () => {
  mkdirSync(".cache", { recursive: true });
  folder = resolve(mkdtempSync(".cache/load-addon-"));
  executable = join(folder, "loads");
  writeFileSync(join(folder, "loads.ts"), PROGRAM);
  await must([
    ...[process.execPath, "build", join(folder, "loads.ts"), "--compile", "--bytecode"],
    ...["--format=esm", `--outfile=${executable}`],
  ]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the loader of the addon", () => {
  test.each([
    { name: "from source", command: () => [process.execPath, join(folder, "loads.ts")] },
    { name: "from the executable", command: () => [executable] },
  ])("loads $name, once", async ({ command }) => {
    const { code, stdout, stderr } = await run(command());

    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({ type: "object", same: true });
  });

  test("maps anonymous memory and writes nothing into temporary directories", async () => {
    const temporary = join(folder, "temporary");
    mkdirSync(temporary);

    const { stdout } = await run([executable], {
      env: { TMPDIR: temporary, BUN_TMPDIR: temporary },
    });

    expect(JSON.parse(stdout)).toMatchObject({ mapped: ["/memfd:ztna.node (deleted)"] });
    expect(readdirSync(temporary)).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)(
    "loads with every temporary directory mounted noexec (needs root)",
    async () => {
      const mounts = ["/tmp", "/var/tmp", "/dev/shm"].map(
        (it) => `mount -t tmpfs -o noexec none ${it}`,
      );
      // By its descriptor: the project itself may lie in a directory that is hidden then.
      const script = `exec 3<"$0" && ${mounts.join(" && ")} && exec /proc/self/fd/3`;

      const { code, stdout } = await run(["unshare", "--mount", "sh", "-c", script, executable]);

      expect({ code, ...JSON.parse(stdout) }).toMatchObject({ code: 0, type: "object" });
    },
  );
});

const PROGRAM = `
import { readFileSync } from "node:fs";
import { loadAddon } from "${resolve("src/transport/load-addon.ts")}";

const addon = loadAddon();
const mapped = readFileSync("/proc/self/maps", "utf8")
  .split("\\n")
  .filter((line) => / r-xp /.test(line) && line.includes("ztna"))
  .map((line) => line.replace(/^(\\S+\\s+){5}/, ""))
  .filter((path) => !path.endsWith("/loads"));
console.log(
  JSON.stringify({ type: typeof addon, same: loadAddon() === addon, mapped: [...new Set(mapped)] }),
);
`;
