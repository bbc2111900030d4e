/** Who is let in: certificates that must be refused, told to no stranger, and some that must not. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  makeCertificate,
  makeForeignAuthority,
  type OddCertificate,
} from "../support/certificates.ts";
import { counterOf } from "../support/counters.ts";
import { Deployment, HERE, type Role } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { buildHostile, dial, helloFrame, streamFile } from "../support/hostile.ts";
import { freePort } from "../support/ports.ts";
import { run } from "../support/process.ts";
import { agentSpec, connectorSpec, relaySpec, SERVICE } from "../support/simple-deployment.ts";
import { TcpClient } from "../support/tcp-client.ts";

const AGENT_URI = "URI:ztna://example/agent/mallory";
const GRANT = `DNS:agent.${SERVICE}.ztna`;
const GOOD: OddCertificate = { names: [AGENT_URI, GRANT], usages: ["clientAuth"] };
const LONG_AGO = ["20200101000000Z", "20210101000000Z"] as const;
const RSA = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

/** RFC 9001 §4.8 puts TLS alerts there. */
const ALERT = 0x1_00;
const UNAUTHENTICATED = 2;

let deployment: Deployment;
let relay: Role;
let relayAddress: string;
let connectorAddress: string;

beforeAll(async () => {
  await buildHostile();
  deployment = await Deployment.create();
  await makeForeignAuthority(deployment.directory, "foreign");
  await deployment.issue("relay", "relay", "--host", HERE.host);
  await deployment.issue("connector", "connector", "--service", SERVICE);
  relayAddress = `${HERE.host}:${await freePort()}`;
  connectorAddress = `${HERE.host}:${await freePort()}`;
  relay = await deployment.add(relaySpec(deployment, relayAddress));
  await relay.ready();
  const spec = connectorSpec(relayAddress, await deployment.addBackend());
  const connector = await deployment.add({
    ...spec,
    config: { ...spec.config, listen: [connectorAddress] },
  });
  await connector.ready();
});
afterAll(() => deployment.remove());

describe("a relay", () => {
  test.each<{ name: string; odd?: OddCertificate; alpn?: string; code: number; reason: RegExp }>([
    { name: "without a certificate", code: ALERT + 116, reason: /no-certificate/ },
    {
      name: "of another authority",
      odd: { ...GOOD, authority: "foreign" },
      code: ALERT + 48,
      reason: /unknown-ca/,
    },
    {
      name: "whose certificate expired",
      odd: { ...GOOD, validity: LONG_AGO },
      code: ALERT + 45,
      reason: /expired/,
    },
    {
      name: "whose certificate is not valid yet",
      odd: { ...GOOD, validity: ["20900101000000Z", "20910101000000Z"] },
      code: ALERT + 45,
      reason: /not-yet-valid/,
    },
    {
      name: "without an extended key usage",
      odd: { names: GOOD.names },
      code: ALERT + 43,
      reason: /no-eku/,
    },
    {
      name: "with a server's key usage",
      odd: { ...GOOD, usages: ["serverAuth"] },
      code: ALERT + 43,
      reason: /wrong-eku/,
    },
    {
      name: "of another version",
      odd: GOOD,
      alpn: "ztna-v9",
      code: ALERT + 120,
      reason: /no-common-alpn/,
    },
    {
      name: "with two URI names",
      odd: { ...GOOD, names: [...GOOD.names, "URI:ztna://example/agent/other"] },
      code: UNAUTHENTICATED,
      reason: /uri/i,
    },
    {
      name: "without a URI name",
      odd: { ...GOOD, names: [GRANT] },
      code: UNAUTHENTICATED,
      reason: /uri/i,
    },
    {
      name: "that calls itself a relay",
      odd: { ...GOOD, names: ["URI:ztna://example/relay/mallory", GRANT] },
      code: UNAUTHENTICATED,
      reason: /role/,
    },
    {
      name: "of another trust domain",
      odd: { ...GOOD, names: ["URI:ztna://elsewhere/agent/mallory", GRANT] },
      code: UNAUTHENTICATED,
      reason: /domain/,
    },
  ])("refuses a client $name, counts it and says why once", async ({ odd, alpn, code, reason }) => {
    const shown = odd === undefined ? {} : await certificateOf(odd);
    const [logged, counted] = [relay.process.lines.length, await refusalsOf(relay)];

    const { end } = await dial(relayAddress, { ...shown, alpn: alpn ?? "ztna-v2", ms: 5000 });

    await deployment.explain(async () => {
      expect(end).toMatchObject({ by: "peer", code, application: code < ALERT });
      const lines = await eventually("a refusal", { withinMs: 5000 }, () => {
        const found = relay.process.lines.slice(logged).filter((it) => /refused/.test(it));
        return found.length > 0 ? found : undefined;
      });
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(reason);
      expect(await refusalsOf(relay)).toBe(counted + 1);
    });
  });

  test("gives a client that brings a ticket and early data a full handshake", async () => {
    const shown = await certificateOf(GOOD);
    const stream = streamFile(deployment.file("early.bin"), helloFrame());

    const outcome = await dial(relayAddress, { ...shown, stream, early: 1, ms: 1500 });

    expect(outcome).toMatchObject({ established: true, resumed: false, earlyOffered: true });
  });

  test("never reads the early data of a client that it refuses", async () => {
    const shown = await certificateOf({ ...GOOD, authority: "foreign" });
    const stream = streamFile(deployment.file("early.bin"), helloFrame());
    const logged = relay.process.lines.length;

    const outcome = await dial(relayAddress, { ...shown, stream, early: 1, ms: 1500 });

    expect(outcome).toMatchObject({ earlyOffered: true, resumed: false, received: 0 });
    expect(outcome.end).toMatchObject({ by: "peer", code: ALERT + 48 });
    expect(relay.process.lines.slice(logged).filter((it) => it.includes("leg up"))).toEqual([]);
  });

  test("ends what an agent has when its certificate expires", async () => {
    const name = "mayfly";
    await makeCertificate(deployment.directory, name, { ...GOOD, seconds: 8 });
    const agent = await deployment.add(await agentWith(name));
    await agent.ready();
    const connection = await TcpClient.open("127.0.0.1", echoPortOf(agent));
    await connection.write("before");
    expect((await connection.read(6)).toString()).toBe("before");
    const logged = relay.process.lines.length;

    // The relay judges the chains of its legs every 30 s, and a lease ends with the certificate.
    await deployment.explain(async () => {
      await eventually("the end of the connection", { withinMs: 15_000 }, async () => {
        await connection.write("x").catch(() => undefined);
        return connection.isClosed ? true : undefined;
      });
      await relay.process.line(/expired/, { withinMs: 40_000 }, logged);
    });
    await agent.stop();
  }, 70_000);
});

describe("a stranger", () => {
  test("gets no answer at a connector's port, whatever he shows", async () => {
    const outcome = await dial(connectorAddress, { ...(await certificateOf(GOOD)), ms: 1000 });

    expect(outcome).toMatchObject({ established: false, received: 0, end: { by: "nobody" } });
  });
});

describe("an agent", () => {
  test.each<{ name: string; odd: OddCertificate; reason: RegExp }>([
    { name: "expired", odd: { ...GOOD, validity: LONG_AGO }, reason: /CERTIFICATE.*expired/s },
    { name: "has no key usage", odd: { names: GOOD.names }, reason: /extended key usage/ },
  ])("does not start with a certificate that $name", async ({ odd, reason }) => {
    const name = await certificateNamed(odd);
    const agent = await deployment.add(await agentWith(name));

    expect(await agent.process.exited).toBe(3);
    await agent.process.stop();
    expect(agent.process.log()).toMatch(reason);
  });

  test.each<{ name: string; odd: OddCertificate }>([
    { name: "with an ordinary P-256 key", odd: GOOD },
    {
      name: "with an RSA key, as cert-manager makes by default",
      odd: { ...GOOD, usages: ["serverAuth", "clientAuth"], key: RSA },
    },
    { name: "with an Ed25519 key", odd: { ...GOOD, key: ["-algorithm", "ED25519"] } },
  ])("$name is served", async ({ odd }) => {
    const agent = await deployment.add(await agentWith(await certificateNamed(odd)));

    await deployment.explain(async () => {
      await agent.ready();
      expect(await curlThrough(agent)).toMatchObject({
        code: 0,
        stdout: "hello from the backend\n",
      });
    });
    await agent.stop();
  });

  test.each<{ name: string; odd: OddCertificate; reason: RegExp }>([
    {
      name: "names another host",
      odd: relayCertificate({ names: ["DNS:relay.elsewhere.example"] }),
      reason: /relay\.elsewhere\.example/,
    },
    {
      name: "is another authority's",
      odd: relayCertificate({ authority: "foreign" }),
      reason: /unknown-ca/,
    },
    {
      name: "has a client's key usage",
      odd: relayCertificate({ usages: ["clientAuth"] }),
      reason: /wrong-eku/,
    },
  ])("refuses a relay whose certificate $name, and status says why", async ({ odd, reason }) => {
    const address = `${HERE.host}:${await freePort()}`;
    const name = await certificateNamed(odd);
    const spec = relaySpec(deployment, address);
    const dataDir = deployment.file(`${name}-data`);
    const impostor = await deployment.add({ ...spec, name, config: { ...spec.config, dataDir } });
    await impostor.ready();
    const agent = await deployment.add(await agentWith(await certificateNamed(GOOD), address));

    await deployment.explain(async () => {
      expect(await agent.process.line(/refused/, { withinMs: 10_000 })).toMatch(reason);
      expect(await refusalsOf(agent)).toBeGreaterThan(0);
      const status = JSON.parse(
        await deployment.ztna("status", "--json", "--control-socket", socketOf(agent)),
      );
      expect(status.relays).toMatchObject([{ state: "connecting" }]);
      expect(status.relays[0].error).toMatch(reason);
      await eventually("more refusals", { withinMs: 10_000 }, async () =>
        (await refusalsOf(agent)) >= 3 ? true : undefined,
      );
      const said = agent.process.lines.filter((it) => it.includes("leg refused"));
      expect(said).toHaveLength(1);
    });
    await agent.stop();
    await impostor.stop();
  });
});

interface Forwards {
  readonly http: number;
  readonly echo: number;
}

const forwards = new Map<Role["spec"], Forwards>();

function relayCertificate(odd: {
  readonly names?: readonly string[];
  readonly authority?: string;
  readonly usages?: readonly string[];
}): OddCertificate {
  const { names = [`IP:${HERE.host}`], usages = ["serverAuth"], ...rest } = odd;
  return { names: ["URI:ztna://example/relay/impostor", ...names], usages, ...rest };
}

/** Makes a certificate and returns the name of its files. */
async function certificateNamed(odd: OddCertificate): Promise<string> {
  const name = `odd-${Bun.hash(JSON.stringify(odd)).toString(36)}`;
  await makeCertificate(deployment.directory, name, odd);
  return name;
}

async function certificateOf(odd: OddCertificate): Promise<{ chain: string; key: string }> {
  const name = await certificateNamed(odd);
  return { chain: deployment.file(`${name}.crt`), key: deployment.file(`${name}.key`) };
}

async function refusalsOf(role: Role): Promise<number> {
  return counterOf(await role.metrics(), "ztna_handshakes_refused_total");
}

async function agentWith(certificate: string, relays = relayAddress): Promise<Role["spec"]> {
  const [http, echo] = [await freePort(), await freePort()];
  const spec = {
    ...agentSpec(deployment, certificate, relays),
    arguments: ["--forward", `${http}=${SERVICE}:80`, "--forward", `${echo}=${SERVICE}:7`],
  };
  forwards.set(spec, { http, echo });
  return spec;
}

function echoPortOf(agent: Role): number {
  return forwards.get(agent.spec)?.echo ?? 0;
}

function socketOf({ spec }: Role): string {
  const { controlSocket } = spec.config;
  return String(controlSocket);
}

function curlThrough(agent: Role) {
  const url = `http://127.0.0.1:${forwards.get(agent.spec)?.http}/hello`;
  return run(["curl", "-sS", "--max-time", "5", url]);
}
