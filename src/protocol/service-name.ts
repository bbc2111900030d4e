/** The names of services: one DNS label in lower case, so that they fit into SANs and into names. */
import { SERVICE_NAME_CHARS_MAX } from "./limits.ts";

export const SERVICE_NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;

export function isServiceName(text: string): boolean {
  return text.length <= SERVICE_NAME_CHARS_MAX && SERVICE_NAME_PATTERN.test(text);
}
