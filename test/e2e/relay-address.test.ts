/** A relay that listens on all of a host's addresses, as it does where nobody chooses. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Deployment, HERE } from "../support/deployment.ts";
import { freePort } from "../support/ports.ts";
import { must } from "../support/process.ts";
import { agentSpec, connectorSpec, relaySpec, SERVICE } from "../support/simple-deployment.ts";

/** Answers that leave by the way back have another source: that of {@link HERE}. */
const DIALLED = "127.0.0.2";

let deployment: Deployment;
beforeAll(async () => {
  deployment = await Deployment.create();
});
afterAll(() => deployment.remove());

test("it answers from the address that it was dialled at", () =>
  deployment.explain(async () => {
    await deployment.issue("relay", "relay", "--host", DIALLED);
    await deployment.issue("connector", "connector", "--service", SERVICE);
    await deployment.issue("agent", "alice", "--service", SERVICE);
    const port = await freePort();
    const relay = await deployment.add(relaySpec(deployment, `0.0.0.0:${port}`));
    await relay.ready();
    const dialled = `${DIALLED}:${port}`;
    const connector = await deployment.add(connectorSpec(dialled, await deployment.addBackend()));
    const local = await freePort();
    const agent = await deployment.add({
      ...agentSpec(deployment, "alice", dialled),
      arguments: ["--forward", `${local}=${SERVICE}:80`],
    });
    await Promise.all([connector.ready(), agent.ready()]);

    const page = await must([
      "curl",
      "-sS",
      "--max-time",
      "10",
      `http://${HERE.host}:${local}/hello`,
    ]);

    expect(page).toBe("hello from the backend\n");
  }));
