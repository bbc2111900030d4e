/** `npm run demo -- --once`: the proof that the README promises, and what a script learns of its failure. */
import { describe, expect, test } from "bun:test";
import { run } from "../support/process.ts";
import { SERVICE } from "../support/simple-deployment.ts";

const DEMO = [process.execPath, "scripts/demo.ts", "--once"];

describe("the demonstration", () => {
  test("shows the service that it used, and ends with 0", async () => {
    const { code, stdout, stderr } = await run(DEMO);

    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/^service +address +path +RTT +bytes$/m);
    expect(stdout).toMatch(new RegExp(`^${SERVICE} .* RELAYED +\\d+\\.\\d\\d ms +\\d+`, "m"));
  });

  test.each([
    { name: "there is no room for its files", env: { TMPDIR: "/nonexistent" } },
    {
      name: "nothing can be fetched",
      env: { http_proxy: "http://127.0.0.1:9", no_proxy: undefined, NO_PROXY: undefined },
    },
  ])("ends with 1 and says why when $name", async ({ env }) => {
    const { code, stdout, stderr } = await run(DEMO, { env });

    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: .+/m);
    expect(stdout).toBe("");
  });
});
