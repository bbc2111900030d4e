/**
 * The one spelling of a certificate's serial number: octets in hex without leading zeros.
 *
 * DER puts a zero octet before a serial whose first bit is set, and tools print it or leave it out.
 * The data plane tells a leaf's serial in this form, so whatever is held against one needs it too.
 */
export function canonicalSerial(hex: string): string {
  return hex.replace(/^(?:00)+(?=[0-9a-f]{2})/, "");
}
