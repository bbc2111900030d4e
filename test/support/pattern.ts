/**
 * Octets that both ends of a test can make: no two blocks are alike, so that a lost, doubled or
 * swapped piece changes the digest.
 */
import { createHash } from "node:crypto";

const BLOCK = 65_536;
const noise = Buffer.concat(
  Array.from({ length: BLOCK / 32 }, (_, i) => createHash("sha256").update(`block ${i}`).digest()),
);

/** Yields `length` octets in blocks. Each block is a buffer of its own. */
export function* pattern(length: number): Generator<Uint8Array<ArrayBuffer>> {
  for (let offset = 0; offset < length; offset += BLOCK) {
    const block = new Uint8Array(noise);
    new DataView(block.buffer).setBigUint64(0, BigInt(offset));
    yield block.subarray(0, Math.min(BLOCK, length - offset));
  }
}

export function patternStream(length: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  const blocks = pattern(length);
  return new ReadableStream({
    pull(controller) {
      const { value, done } = blocks.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
  });
}

export function patternDigest(length: number): string {
  const hash = createHash("sha256");
  for (const block of pattern(length)) hash.update(block);
  return hash.digest("hex");
}

export async function digestOf(
  stream: AsyncIterable<Uint8Array> | null,
): Promise<{ length: number; digest: string }> {
  const hash = createHash("sha256");
  let length = 0;
  for await (const chunk of stream ?? []) {
    hash.update(chunk);
    length += chunk.length;
  }
  return { length, digest: hash.digest("hex") };
}
