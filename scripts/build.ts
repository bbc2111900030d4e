/**
 * Builds `dist/ztna`: one file that needs the C library and nothing else.
 *
 * First the native addon, with the runtimes of C++ and of stack unwinding linked in, then the
 * executable that contains it. Each is built only when something it depends on has changed.
 */
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fingerprint, type Inputs, isFresh, recordBuild } from "./lib/fingerprint.ts";
import { StepFailure, say, step } from "./lib/step.ts";

const ADDON = "native/ztna.addon";
const EXECUTABLE = "dist/ztna";
const RECORDS = ".cache/build";
/** Own folder: its flags differ from those of tests and lints, which would rebuild everything. */
const TARGET = "native/target/addon";
/** The addon as it was linked: the same code at the same places, with names for profiles. */
export const ADDON_WITH_SYMBOLS: string = join(TARGET, "release/libztna_napi.so");

if (import.meta.main) {
  process.chdir(resolve(import.meta.dir, ".."));
  try {
    await build();
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error;
    say(`error: ${error.message}`);
    process.exit(1);
  }
}

/** Returns whether anything was built. */
export async function build(): Promise<boolean> {
  const addonBuilt = await buildWhenStale(ADDON, addonInputs(), buildAddon);
  const executableBuilt = await buildWhenStale(EXECUTABLE, executableInputs(), buildExecutable);
  return addonBuilt || executableBuilt;
}

async function buildWhenStale(
  output: string,
  inputs: Inputs,
  make: (output: string) => Promise<void>,
): Promise<boolean> {
  const digest = fingerprint(inputs);
  const record = join(RECORDS, `${output.replaceAll("/", "-")}.txt`);
  if (isFresh(output, record, digest)) {
    say(`  ${output} is up to date`);
    return false;
  }

  // Under its final name only when whole; a running program keeps the file it started from.
  const scratch = `${output}.part`;
  mkdirSync(dirname(output), { recursive: true });
  await make(scratch);
  renameSync(scratch, output);
  recordBuild(output, record, digest);
  return true;
}

function addonInputs(): Inputs {
  return {
    globs: [
      "native/crates/**/*",
      "native/*.toml",
      "native/Cargo.lock",
      "native/.cargo/config.toml",
      "scripts/build.ts",
      ".cache/boringssl.stamp",
    ],
    facts: [textOf(["cargo", "--version"])],
  };
}

/** See `docs/decisions/0007-one-executable.md` for why the runtimes are linked in and how. */
async function buildAddon(output: string): Promise<void> {
  const linkerFiles = resolve(TARGET, "linker");
  mkdirSync(linkerFiles, { recursive: true });
  // rustc names libgcc_s itself; a linker script of that name leads to the static libraries.
  writeFileSync(join(linkerFiles, "libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n");

  const root = process.cwd();
  const { CARGO_HOME: cargoHome = join(homedir(), ".cargo") } = process.env;
  const flags = [
    `-Lnative=${dirname(textOf(["c++", "-print-file-name=libstdc++.a"]))}`,
    "-Clink-arg=-static-libgcc",
    `--remap-path-prefix=${cargoHome}/registry/src=crates`,
    `--remap-path-prefix=${root}=ztna`,
  ];
  await step(
    "building the native data plane",
    [
      ...["cargo", "rustc", "--release", "--locked", "--package", "ztna-napi"],
      ...["--lib", "--crate-type", "cdylib", "--target-dir", resolve(TARGET)],
      ...["--", `-Lnative=${linkerFiles}`, "-Cstrip=none"],
    ],
    {
      cwd: "native",
      env: {
        BORING_BSSL_RUST_CPPLIB: "static=stdc++",
        CARGO_ENCODED_RUSTFLAGS: flags.join("\u001f"),
      },
    },
  );
  textOf(["strip", "--strip-all", "-o", output, ADDON_WITH_SYMBOLS]);
}

function executableInputs(): Inputs {
  return {
    globs: ["src/**/*", ADDON, "package.json", "package-lock.json", "scripts/build.ts"],
    facts: [Bun.version, process.arch, process.platform],
  };
}

async function buildExecutable(output: string): Promise<void> {
  rmSync(output, { force: true });
  await step("building the executable", [
    ...[process.execPath, "build", "src/main.ts", "--compile", "--minify", "--bytecode"],
    ...["--format=esm", `--outfile=${output}`],
    // A program that people start in any folder takes nothing from that folder.
    ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
  ]);
  chmodSync(output, 0o755);
  checkNeededLibraries(output);
}

/** Refuses an executable that would need more than the C library where it runs. */
function checkNeededLibraries(executable: string): void {
  const allowed = /^(lib(c|m|dl|pthread|rt)\.so|ld-linux)/;
  for (const file of [executable, ADDON]) {
    const foreign = neededLibraries(file).filter((it) => !allowed.test(it));
    if (foreign.length > 0) throw new StepFailure(`${file} needs ${foreign.join(", ")}`);
  }
}

function neededLibraries(file: string): string[] {
  const listing = textOf(["objdump", "--private-headers", file]);
  return [...listing.matchAll(/^\s+NEEDED\s+(\S+)/gm)].map(([, name = ""]) => name);
}

function textOf(command: readonly string[]): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...command]);
  if (exitCode !== 0) throw new StepFailure(`${command.join(" ")}: ${stderr.toString().trim()}`);
  return stdout.toString().trim();
}
