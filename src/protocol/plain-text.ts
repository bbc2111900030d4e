/**
 * What a peer says in words, fit to be shown: one line that moves no cursor and turns no text around.
 *
 * A `reason` ends in logs, in `status` and on the terminals of people who did not choose their peers.
 */
const UNFIT = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Returns `text` with each character that is no plain one replaced. */
export function plainText(text: string): string {
  return text.replace(UNFIT, "\u{fffd}");
}
