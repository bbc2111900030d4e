/** `dist/ztna` as a file that is carried to another machine. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { median } from "../bench/comparison.ts";
import { type Deployment, HERE, type Role, ZTNA } from "../support/deployment.ts";
import { must, run } from "../support/process.ts";
import { type SimpleDeployment, startSimpleDeployment } from "../support/simple-deployment.ts";

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

const unavailable =
  process.getuid?.() !== 0
    ? "needs root"
    : Bun.which("cc") === null
      ? "needs the command cc"
      : undefined;

describe.skipIf(unavailable !== undefined)(
  `in a root file system with libc only (${unavailable ?? "chroot, /tmp noexec"})`,
  () => {
    let root: string;
    let deployment: Deployment;
    let demo: SimpleDeployment;

    beforeAll(async () => {
      root = mkdtempSync(join(tmpdir(), "ztna-root-"));
      for (const path of await librariesOf(ZTNA)) {
        mkdirSync(join(root, dirname(path)), { recursive: true });
        copyFileSync(path, join(root, path));
      }
      for (const folder of ["proc", "dev", "tmp", "etc"]) mkdirSync(join(root, folder));
      copyFileSync(ZTNA, join(root, "ztna"));
      demo = await startSimpleDeployment();
      ({ deployment } = demo);
    });
    afterAll(async () => {
      await deployment.remove();
      rmSync(root, { recursive: true, force: true });
    });

    test("the program makes certificates", async () => {
      const command = [ZTNA, "pki", "init", "--out", "/etc/pki"];
      const output = await must([...inRoot(root, deployment.directory), ...command]);

      expect(output).toContain("/etc/pki/ca.crt");
      expect(readdirSync(join(root, "etc/pki")).sort()).toEqual(["ca.crt", "ca.key"]);
      expect(readdirSync(join(root, "tmp"))).toEqual([]);
    });

    test("all roles serve, and what others left to be loaded is not", () =>
      deployment.explain(async () => {
        await plantLibraries(root, deployment.directory);
        const under = inRoot(root, deployment.directory);
        const roles: Role[] = [];
        for (const role of [demo.relay, demo.connector, demo.agent]) {
          await role.stop();
          const inside = await deployment.add({ ...role.spec, under });
          await inside.ready();
          roles.push(inside);
        }

        const url = `http://${HERE.host}:${demo.forwards.http}/hello`;
        const page = await must([
          "curl",
          "-sS",
          "--max-time",
          "10",
          "--retry",
          "5",
          "--retry-all-errors",
          url,
        ]);

        expect(page).toBe("hello from the backend\n");
        for (const { process: role } of roles) {
          const loaded = loadedBy(role.pid).filter((it) => !C_LIBRARY.test(basename(it)));
          expect(loaded.sort()).toEqual(["/memfd:ztna.node (deleted)", join(root, "ztna")].sort());
        }
        expect(existsSync(join(deployment.directory, "planted"))).toBe(false);
        // The library would have told: this is what becomes of a program that does load it.
        const planted = join(deployment.directory, "ztna.node");
        await must(["env", `LD_PRELOAD=${planted}`, "true"]);
        expect(existsSync(join(deployment.directory, "planted"))).toBe(true);
      }));
  },
);

/** A prefix that runs the program in the root file system; mounts are private to it and gone with it. */
function inRoot(root: string, directory: string): string[] {
  const script = [
    `mount -t proc proc ${root}/proc`,
    `mount --bind /dev ${root}/dev`,
    `mount -t tmpfs -o noexec none ${root}/tmp`,
    `mkdir -p ${root}${directory}`,
    `mount --bind ${directory} ${root}${directory}`,
    `cp ${directory}/*.node ${directory}/*.addon ${root}/tmp 2>/dev/null || :`,
    `export TMPDIR=${directory} BUN_TMPDIR=${directory} HOME=${directory}`,
    `export LD_LIBRARY_PATH=${directory}`,
    "shift",
    `exec chroot ${root} /ztna "$@"`,
  ].join("; ");
  return ["unshare", "--mount", "sh", "-ec", script, "sh"];
}

/**
 * Leaves a library wherever a program might look for its addon: beside itself, in the temporary and the
 * working directory, as a cache of its runtime. Whoever loads it makes the file `planted`.
 */
async function plantLibraries(root: string, directory: string): Promise<void> {
  const library = join(directory, "ztna.node");
  const tell = `creat("${join(directory, "planted")}", 0600)`;
  const source = `#include <fcntl.h>\n__attribute__((constructor)) void tell(void) { ${tell}; }\n`;
  await must(["cc", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], source);
  for (const folder of [directory, join(directory, "native"), root, join(root, "native")]) {
    mkdirSync(folder, { recursive: true });
    for (const name of ["ztna.addon", "libztna_napi.so", ".bun-ztna.node"]) {
      copyFileSync(library, join(folder, name));
    }
  }
}

/** Files that a process has mapped as code. */
function loadedBy(pid: number): string[] {
  const maps = readFileSync(`/proc/${pid}/maps`, "utf8").split("\n");
  const code = maps.filter((line) => /^\S+ r-xp /.test(line));
  const files = code.map((line) => line.replace(/^(\S+\s+){5}/, ""));
  return [...new Set(files.filter((it) => it.startsWith("/")))];
}

async function neededBy(file: string): Promise<string[]> {
  const listing = await must(["objdump", "--private-headers", file]);
  return [...listing.matchAll(/^\s+NEEDED\s+(\S+)/gm)].map(([, name = ""]) => name);
}

async function librariesOf(file: string): Promise<string[]> {
  const listing = await must(["ldd", file]);
  return [...listing.matchAll(/(\/\S+)/g)].map(([path]) => path);
}
