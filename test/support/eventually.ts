/** Waits for what other processes do: asks again until it is so or the deadline has passed. */

export interface Patience {
  /** How long at most. */
  readonly withinMs: number;
  /** How often is asked. */
  readonly everyMs?: number;
}

/** Returns the first answer of `ask` that is not undefined. What `ask` throws counts as not yet. */
export async function eventually<T>(
  what: string,
  patience: Patience,
  ask: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const deadline = performance.now() + patience.withinMs;
  let reason = "it was never so";
  do {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      reason = String(error);
    }
    await Bun.sleep(patience.everyMs ?? 25);
  } while (performance.now() < deadline);
  throw new Error(`not within ${patience.withinMs} ms: ${what} (${reason})`);
}
