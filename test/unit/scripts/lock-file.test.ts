import { expect, test } from "bun:test";
import lock from "../../../package-lock.json" with { type: "json" };

interface Entry {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly resolved?: string;
}

const packages = lock.packages as Readonly<Record<string, Entry>>;

// `npm ci` refuses a lock file that leaves out what another platform would install.
test("the lock file names the optional packages of every platform", () => {
  const wanted = Object.values(packages).flatMap((it) =>
    Object.keys(it.optionalDependencies ?? {}),
  );

  expect(wanted.length).toBeGreaterThan(0);
  expect(wanted.filter((name) => !(`node_modules/${name}` in packages))).toEqual([]);
});

test("the lock file names no registry: whoever installs uses their own", () => {
  const resolved = Object.values(packages).filter((it) => it.resolved !== undefined);

  expect(resolved).toEqual([]);
});
