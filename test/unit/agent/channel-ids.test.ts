/** Channel ids that an agent proposes, from the question to the answer. */
import { describe, expect, test } from "bun:test";
import {
  CHANNEL_IDS_REMEMBERED_MAX,
  ChannelIds,
  REFUSED_IDS_KEPT_MAX,
} from "../../../src/agent/channel-ids.ts";
import { commands, OTHER_EPOCH } from "../../support/client-bench.ts";
import { AgentBench } from "./bench.ts";

describe("channel ids", () => {
  test("that were proposed are known by relay until too many others were, then given back", () => {
    const { ids, returned } = newIds();
    const first = ids.propose(0);

    expect(ids.isOurs(0, first)).toBe(true);
    expect(ids.isOurs(1, first)).toBe(false);
    for (let count = 1; count < CHANNEL_IDS_REMEMBERED_MAX; count++) ids.propose(0);
    expect(ids.isOurs(0, first)).toBe(true);
    ids.propose(0);
    expect(ids.isOurs(0, first)).toBe(false);
    expect(returned).toEqual([first]);
  });

  test("that are in force outlive any number of proposals, and are never given back", () => {
    const { ids, returned } = newIds();
    const first = ids.propose(0);
    ids.handleAnswered(0, first, first);

    for (let count = 0; count < CHANNEL_IDS_REMEMBERED_MAX; count++) {
      ids.handleRefused(0, ids.propose(0));
    }
    ids.handleRefused(0, first);
    ids.handleNewEpoch(0);

    expect(ids.isOurs(0, first)).toBe(true);
    expect(returned).not.toContain(first);
  });

  test("that were refused are known until too many others were, then given back", () => {
    const { ids, returned } = newIds();
    const first = ids.propose(0);
    ids.handleRefused(0, first);

    for (let count = 1; count < REFUSED_IDS_KEPT_MAX; count++) ids.handleRefused(0, ids.propose(0));
    const atTheLimit = [...returned];
    expect(ids.isOurs(0, first)).toBe(true);
    ids.handleRefused(0, ids.propose(0));

    expect(atTheLimit).toEqual([]);
    expect(returned).toEqual([first]);
    expect(ids.isOurs(0, first)).toBe(false);
  });

  test("that were refused and came into force all the same are never given back", () => {
    const { ids, returned } = newIds();
    const first = ids.propose(0);
    ids.handleRefused(0, first);

    ids.handleAnswered(0, first, ids.propose(0));
    ids.handleNewEpoch(0);

    expect(ids.isOurs(0, first)).toBe(true);
    expect(returned).not.toContain(first);
  });

  test("that came into force are known until too many others did", () => {
    const { ids } = newIds();
    const first = ids.propose(0);
    ids.handleAnswered(0, first, first);

    for (let count = 1; count < CHANNEL_IDS_REMEMBERED_MAX; count++) {
      const id = ids.propose(0);
      ids.handleAnswered(0, id, id);
    }
    const atTheLimit = ids.isOurs(0, first);
    const onePast = ids.propose(0);
    ids.handleAnswered(0, onePast, onePast);

    expect([atTheLimit, ids.isOurs(0, first)]).toEqual([true, false]);
  });
});

describe("an agent's channel id", () => {
  test("that the relay refused serves another session that it has answered with it", () => {
    const { agent, channelId, request } = asking();
    agent.feed({ type: "wanted", service: "web" });
    expect(agent.asked()).toMatchObject({ service: "web" });

    agent.fromRelay({ type: "failed", request, code: "backend-unreachable", reason: "" });
    const caused = agent.grantSession(0, { channelId });

    expect(closed(agent.outputs)).toEqual([]);
    expect(commands(caused, "open-relayed-path")).toMatchObject([{ receiveId: channelId }]);
    expect(agent.access("web")?.lastFailure).toBeUndefined();
  });

  test("is given back after the relay refused", () => {
    const { agent, channelId, request } = asking();
    agent.fromRelay({ type: "failed", request, code: "no-connector", reason: "" });

    expect(closed(restarted(agent))).toContain(channelId);
  });

  test("is given back after the relay kept the pair's older one, which stays", () => {
    const { agent, channelId: older } = asking();
    agent.grantSession();
    agent.feed({ type: "wanted", service: "web" });
    const { channelId } = agent.asked();
    agent.grantSession(0, { channelId: older });

    expect(channelId).not.toBe(older);
    expect(closed(restarted(agent))).toEqual([channelId]);
  });

  test("stays when nobody answered: the relay may have made a channel of it", () => {
    const { agent, channelId } = asking();
    agent.advance(12_000);
    agent.feed({ type: "wanted", service: "echo" });
    expect(agent.asked().channelId).not.toBe(channelId);

    const caused = agent.grantSession(0, { channelId });

    expect(closed(agent.outputs)).not.toContain(channelId);
    expect(commands(caused, "open-relayed-path")).toMatchObject([{ receiveId: channelId }]);
  });

  test("that nobody answered is given back when the relay has forgotten it", () => {
    const { agent, channelId } = asking();

    expect(closed(restarted(agent))).toEqual([channelId]);
  });

  test("of a further relay is given back after that one refused", () => {
    const agent = new AgentBench({ relays: 2 }).ready(["echo"], 2).granted();
    const { channelId, request } = agent.asked(1);

    agent.fromRelay({ type: "failed", request, code: "not-available", reason: "" }, 1);

    expect(closed(restarted(agent, 1))).toContain(channelId);
  });
});

function newIds() {
  let issued = 0;
  const returned: string[] = [];
  const ids = new ChannelIds(
    () => String(issued++),
    (id) => returned.push(id),
  );
  return { ids, returned };
}

/** An agent that asked for a session. */
function asking() {
  const agent = new AgentBench().ready();
  agent.feed({ type: "wanted", service: "echo" });
  const { channelId, request } = agent.asked();
  return { agent, channelId, request };
}

/** What the agent does when it finds that a relay has restarted; nothing was given back before. */
function restarted(agent: AgentBench, relay = 0) {
  agent.advance(6000);
  agent.loseLeg(relay);
  agent.advance(0);
  expect(closed(agent.outputs)).toEqual([]);
  return agent.welcome(relay, { epoch: OTHER_EPOCH });
}

function closed(outputs: Parameters<typeof commands>[0]): string[] {
  return commands(outputs, "close-channel").map(({ channel }) => channel);
}
