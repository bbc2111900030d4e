/** How much is tested: CI takes a tenth of what `npm run test:long` takes. */
const { ZTNA_LONG } = process.env;

export const LONG = ZTNA_LONG === "1";

/** Returns `full` in a long run and a tenth of it otherwise. */
export function scaled(full: number): number {
  return LONG ? full : Math.ceil(full / 10);
}
