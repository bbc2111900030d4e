/**
 * Loads the native data plane.
 *
 * - **Nothing but the file that was built with this program is loaded.** In the executable it is
 *   embedded; from source it is `native/ztna.addon`. No environment variable and no cache takes part:
 *   Bun's own extraction reuses a file in the temporary directory without looking at its contents.
 * - **The loader is given memory, not a file**, where the system can do that (Linux): that works with
 *   every directory mounted noexec or read-only. Elsewhere it is given a file in a directory that only
 *   this process's user can enter and that is removed again at once.
 */
import { dlopen, ptr } from "bun:ffi";
import {
  closeSync,
  constants,
  fchmodSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import addonFile from "../../native/ztna.addon" with { type: "file" };
import { OperatorError } from "../base/error.ts";

let loaded: unknown;

/**
 * Returns the exports of the addon, which the caller gives their types after it has compared the
 * `abiVersion`. Later calls return the same object.
 */
export function loadAddon(): unknown {
  loaded ??= process.platform === "linux" ? loadFromMemory() : loadFromPrivateDirectory();
  return loaded;
}

function loadFromMemory(): unknown {
  const libc = dlopen("libc.so.6", { memfd_create: { args: ["ptr", "u32"], returns: "i32" } });
  const descriptor = libc.symbols.memfd_create(ptr(Buffer.from("ztna.node\0")), MFD_CLOEXEC);
  // A kernel that has none, or a policy that forbids it.
  if (descriptor < 0) return loadFromPrivateDirectory();

  try {
    writeAll(descriptor, readFileSync(addonFile));
    return open(`/proc/self/fd/${descriptor}`);
  } finally {
    // What is loaded stays mapped.
    closeSync(descriptor);
  }
}

function loadFromPrivateDirectory(): unknown {
  const directory = mkdtempSync(join(tmpdir(), "ztna-"));
  try {
    const file = join(directory, "ztna.node");
    const { O_CREAT, O_EXCL, O_WRONLY } = constants;
    const descriptor = openSync(file, O_CREAT | O_EXCL | O_WRONLY, 0o600);
    try {
      writeAll(descriptor, readFileSync(addonFile));
      fchmodSync(descriptor, 0o500);
    } finally {
      closeSync(descriptor);
    }
    return open(file);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function open(path: string): unknown {
  const module = { exports: {} };
  try {
    process.dlopen(module, path);
  } catch (cause) {
    throw new OperatorError(
      "DATA_PLANE_UNAVAILABLE",
      `cannot load the native data plane from ${path}`,
      {
        cause,
        hint: "Use the build for this system and processor; it needs glibc 2.34 or later.",
      },
    );
  }
  return module.exports;
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; ) {
    offset += writeSync(descriptor, bytes, offset);
  }
}

/** `linux/memfd.h`: not inherited by programs that this one starts. */
const MFD_CLOEXEC = 1;
