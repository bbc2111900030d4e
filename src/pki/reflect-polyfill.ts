/**
 * What the certificate library needs before it loads: it finds its parts through decorators.
 *
 * A module of its own, because the bundler runs the ES modules that a module imports before the
 * CommonJS ones, and this polyfill is one of those.
 */
import "reflect-metadata";
