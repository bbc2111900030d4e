/** A role that is killed comes back by itself, and the others notice as little as possible. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { run } from "../support/process.ts";
import { type SimpleDeployment, startSimpleDeployment } from "../support/simple-deployment.ts";
import { TcpClient } from "../support/tcp-client.ts";

let it: SimpleDeployment;

beforeAll(async () => {
  it = await startSimpleDeployment();
  await page();
});
afterAll(() => it.deployment.remove());

describe("recovery", () => {
  test("a connection goes on after the relay was killed and started again", () =>
    it.deployment.explain(async () => {
      const client = await TcpClient.open("127.0.0.1", it.forwards.echo);
      await say(client, "before");

      await it.relay.kill();
      it.relay.start();
      await it.relay.ready();

      await say(client, "after");
      client.close();
    }));

  test.each<{ name: string; role: () => Role; withinMs: number }>([
    { name: "the relay", role: () => it.relay, withinMs: 12_000 },
    { name: "the connector", role: () => it.connector, withinMs: 3000 },
    { name: "the agent", role: () => it.agent, withinMs: 3000 },
  ])("pages are served again after $name was killed and is ready again", ({ role, withinMs }) =>
    it.deployment.explain(async () => {
      const others = [it.relay, it.connector, it.agent].filter((other) => other !== role());
      const pids = others.map((other) => other.process.pid);
      await role().kill();
      role().start();
      await role().ready();

      await eventually("a page", { withinMs }, page);

      expect(others.map((other) => other.process.pid)).toEqual(pids);
      expect(others.some((other) => other.process.hasExited)).toBe(false);
    }),
  );

  test.each<{ name: string; role: () => Role; signal: NodeJS.Signals }>([
    { name: "the agent", role: () => it.agent, signal: "SIGINT" },
    { name: "the connector", role: () => it.connector, signal: "SIGTERM" },
    { name: "the relay", role: () => it.relay, signal: "SIGTERM" },
  ])("$name ends well within 3 s of $signal", ({ role, signal }) =>
    it.deployment.explain(async () => {
      expect(await role().process.stop(signal, 3000)).toBe(0);

      role().start();
      await role().ready();
    }),
  );
});

async function page(): Promise<true> {
  const url = `http://127.0.0.1:${it.forwards.http}/hello`;
  const { code, stderr } = await run(["curl", "-sS", "--max-time", "2", url]);
  if (code !== 0) throw new Error(stderr);
  return true;
}

async function say(client: TcpClient, words: string): Promise<void> {
  await client.write(words);
  expect((await client.read(words.length)).toString()).toBe(words);
}
