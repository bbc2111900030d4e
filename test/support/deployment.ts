/**
 * A whole ztna on this machine: authority, relays, connectors, agents and the backend, each a process.
 *
 * Everything listens on loopback, or in a namespace of its own when the role is given a prefix.
 * Configuration is written to a directory of the test's own, so that a role can be killed and
 * started again as it was.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Backend, startBackend } from "./backend.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./ports.ts";
import { must, run, TestProcess } from "./process.ts";
import { type Resolver, startResolver } from "./resolver.ts";

export const ZTNA = resolve("dist/ztna");

/** Where a role runs and under which address others find it. */
export interface Place {
  readonly host: string;
  /** What its command is run under: a namespace. */
  readonly prefix: readonly string[];
}

export const HERE: Place = { host: "127.0.0.1", prefix: [] };

export type RoleName = "relay" | "connector" | "agent";

export interface RoleSpec {
  readonly role: RoleName;
  /** Of the process and of its files. */
  readonly name: string;
  readonly place?: Place;
  /** What the program alone is run under, and not those who ask it. */
  readonly under?: readonly string[];
  readonly config: Readonly<Record<string, unknown>>;
  readonly arguments?: readonly string[];
  /** Name of the certificate, if it is not the role's own. */
  readonly certificate?: string;
  readonly inherit?: readonly number[];
}

/** A role that can be ended and started again. */
export class Role {
  readonly spec: RoleSpec;
  readonly #deployment: Deployment;
  readonly metricsPort: number;
  #process: TestProcess | undefined;

  constructor(deployment: Deployment, spec: RoleSpec, metricsPort: number) {
    this.#deployment = deployment;
    this.spec = spec;
    this.metricsPort = metricsPort;
  }

  get process(): TestProcess {
    if (this.#process === undefined) throw new Error(`${this.spec.name} was not started`);
    return this.#process;
  }

  start(): void {
    const { role, name, place = HERE, under = [], inherit = [] } = this.spec;
    const file = this.#deployment.writeConfig(this.spec, this.metricsPort);
    this.#process = new TestProcess(
      [...place.prefix, ...under, ZTNA, role, "--config", file, ...(this.spec.arguments ?? [])],
      { name, inherit, cwd: this.#deployment.directory },
    );
  }

  /** Waits for `/readyz`. */
  async ready(withinMs = 10_000): Promise<void> {
    const url = `http://127.0.0.1:${this.metricsPort}/readyz`;
    await eventually(`${this.spec.name} is ready`, { withinMs, everyMs: 50 }, async () => {
      if (this.process.hasExited) return false;
      const { code } = await this.#get(url);
      return code === 0 ? true : undefined;
    }).then(
      (up) => {
        if (!up) throw new Error(`${this.spec.name} ended\n${this.process.log()}`);
      },
      (error: unknown) => {
        throw new Error(`${error}\n${this.process.log()}`);
      },
    );
  }

  /** The text of `/metrics`. */
  async metrics(): Promise<string> {
    const { stdout } = await this.#get(`http://127.0.0.1:${this.metricsPort}/metrics`);
    return stdout;
  }

  kill(): Promise<number> {
    return this.process.stop("SIGKILL");
  }

  stop(): Promise<number> {
    return this.process.stop("SIGTERM");
  }

  async #get(url: string): Promise<{ code: number; stdout: string }> {
    const prefix = this.spec.place?.prefix ?? [];
    if (prefix.length === 0) {
      const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
      return { code: response.ok ? 0 : 22, stdout: await response.text() };
    }
    return run([...prefix, "curl", "--silent", "--fail", "--max-time", "2", url]);
  }
}

export class Deployment {
  readonly directory: string;
  readonly roles: Role[] = [];
  readonly #others: TestProcess[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** @param prefix of the temporary directory's name. */
  static async create(prefix = "ztna-test-"): Promise<Deployment> {
    const deployment = new Deployment(mkdtempSync(join(tmpdir(), prefix)));
    await deployment.ztna(
      "pki",
      "init",
      "--trust-domain",
      "example",
      "--out",
      deployment.directory,
    );
    return deployment;
  }

  /** Runs a command of the program that must succeed; returns its standard output. */
  ztna(...command: readonly string[]): Promise<string> {
    return must([ZTNA, ...command]);
  }

  /** Makes the certificate and key `name`. */
  async issue(role: RoleName, name: string, ...flags: readonly string[]): Promise<void> {
    await this.ztna("pki", "issue", role, name, ...flags, "--out", this.directory);
  }

  file(name: string): string {
    return join(this.directory, name);
  }

  async add(spec: RoleSpec): Promise<Role> {
    const role = new Role(this, spec, await freePort());
    this.roles.push(role);
    role.start();
    return role;
  }

  async addBackend(place: Place = HERE): Promise<Backend> {
    const backend = await startBackend(place.host, place.prefix);
    this.keep(backend.process);
    return backend;
  }

  async addResolver(place: Place = HERE): Promise<Resolver> {
    const resolver = await startResolver(place.host, place.prefix);
    this.keep(resolver.process);
    return resolver;
  }

  /** Has a process ended together with the deployment. */
  keep(process: TestProcess): void {
    this.#others.push(process);
  }

  writeConfig(spec: RoleSpec, metricsPort: number): string {
    const certificate = spec.certificate ?? spec.name;
    const path = this.file(`${spec.name}.yaml`);
    const config = {
      certificate: this.file(`${certificate}.crt`),
      key: this.file(`${certificate}.key`),
      ca: this.file("ca.crt"),
      metrics: { listen: `127.0.0.1:${metricsPort}` },
      ...spec.config,
    };
    writeFileSync(path, JSON.stringify(config, undefined, 2));
    return path;
  }

  /** Runs a part of a test; what fails is told with the last lines of every role. */
  async explain<T>(part: () => Promise<T>): Promise<T> {
    try {
      return await part();
    } catch (error) {
      const logs = this.roles.map((it) => it.process.log(25)).join("\n");
      throw new Error(`${error instanceof Error ? error.stack : error}\n${logs}`);
    }
  }

  async remove(): Promise<void> {
    const processes = [...this.roles.map((it) => it.process), ...this.#others];
    await Promise.all(processes.map((it) => it.stop("SIGKILL")));
    rmSync(this.directory, { recursive: true, force: true });
  }
}
