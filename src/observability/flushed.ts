/** Waits for what was written to leave the process, but not for ever. */
import type { Writable } from "node:stream";
import { type Duration, ms } from "../base/time.ts";

/** Within the half second that ending a role leaves for it. */
const FLUSH_WAIT: Duration = ms(200);

/**
 * Resolves when `output` has passed everything on, has failed, or has had {@link FLUSH_WAIT} for it:
 * a reader that stopped reading must not keep a process from ending.
 */
export function flushed(output: Writable): Promise<void> {
  if (output.destroyed || output.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, FLUSH_WAIT);
    const end = () => {
      clearTimeout(timer);
      resolve();
    };
    output.once("error", end);
    output.write("", end);
  });
}
