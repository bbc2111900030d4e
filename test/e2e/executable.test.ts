/** `dist/ztna` as a file that is carried to another machine. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { median } from "../bench/comparison.ts";
import { ZTNA } from "../support/deployment.ts";
import { must, run } from "../support/process.ts";

/** The C library and its loader, by their SONAMEs. */
const C_LIBRARY = /^(ld-linux-x86-64|ld-linux-aarch64|libc|libm|libdl|libpthread|librt)\.so\.\d+$/;

describe("the executable", () => {
  test("needs the C library and nothing else", async () => {
    for (const file of [ZTNA, "native/ztna.addon"]) {
      const needed = await neededBy(file);

      expect(needed.length).toBeGreaterThan(0);
      expect(needed.filter((it) => !C_LIBRARY.test(it))).toEqual([]);
    }
  });

  test("names no directory of the machine it was built on", async () => {
    const text = await Bun.file("native/ztna.addon").bytes();

    expect(Buffer.from(text).includes(process.cwd())).toBe(false);
    expect(Buffer.from(text).includes("/.cargo/registry")).toBe(false);
  });

  test("prints its help within a tenth of a second", async () => {
    const samples: number[] = [];
    for (let count = 0; count < 5; count += 1) {
      const startedAt = performance.now();
      await must([ZTNA, "--help"]);
      samples.push(performance.now() - startedAt);
    }

    expect(median(samples)).toBeLessThan(100);
  });

  test("takes nothing from the directory it is started in", async () => {
    const folder = mkdtempSync(join(tmpdir(), "ztna-cwd-"));
    await Bun.write(join(folder, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    await Bun.write(join(folder, "preload.ts"), "console.log('loaded');\n");

    const { code, stdout } = await run(["sh", "-c", `cd ${folder} && ${ZTNA} version`]);

    expect(code).toBe(0);
    expect(stdout).not.toContain("loaded");
    rmSync(folder, { recursive: true });
  });
});

describe.skipIf(process.getuid?.() !== 0)(
  "in a root file system with libc only (needs root)",
  () => {
    let root: string;

    beforeAll(async () => {
      root = mkdtempSync(join(tmpdir(), "ztna-root-"));
      for (const path of await librariesOf(ZTNA)) {
        mkdirSync(join(root, dirname(path)), { recursive: true });
        copyFileSync(path, join(root, path));
      }
      for (const folder of ["proc", "dev", "tmp", "etc"]) mkdirSync(join(root, folder));
      copyFileSync(ZTNA, join(root, "ztna"));
    });
    afterAll(() => rmSync(root, { recursive: true, force: true }));

    test("the program runs and makes certificates, with /tmp mounted noexec", async () => {
      const output = await must([...inRoot(root), "/ztna", "pki", "init", "--out", "/etc/pki"]);

      expect(output).toContain("/etc/pki/ca.crt");
      expect(readdirSync(join(root, "etc/pki")).sort()).toEqual(["ca.crt", "ca.key"]);
      expect(readdirSync(join(root, "tmp"))).toEqual([]);
    });
  },
);

/** Mounts are private to the command and gone with it. */
function inRoot(root: string): string[] {
  const script = [
    `mount -t proc proc ${root}/proc`,
    `mount --bind /dev ${root}/dev`,
    `mount -t tmpfs -o noexec none ${root}/tmp`,
    `exec chroot ${root} "$@"`,
  ].join(" && ");
  return ["unshare", "--mount", "sh", "-c", script, "sh"];
}

async function neededBy(file: string): Promise<string[]> {
  const listing = await must(["objdump", "--private-headers", file]);
  return [...listing.matchAll(/^\s+NEEDED\s+(\S+)/gm)].map(([, name = ""]) => name);
}

async function librariesOf(file: string): Promise<string[]> {
  const listing = await must(["ldd", file]);
  return [...listing.matchAll(/(\/\S+)/g)].map(([path]) => path);
}
