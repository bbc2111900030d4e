/**
 * The certificate library, behind what it needs before it loads: it finds its parts through decorators.
 *
 * Imported as an ES module it may run before its polyfill, whatever the order of the imports: Bun runs
 * CommonJS modules as they are loaded. `require` runs where it stands.
 */
import "reflect-metadata";
import type * as library from "@peculiar/x509";

export const x509: typeof library = require("@peculiar/x509");
export type X509Certificate = library.X509Certificate;
