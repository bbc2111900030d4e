import { describe, expect, test } from "bun:test";
import { instant } from "../../../src/base/time.ts";
import { inputOf } from "../../../src/relay/relay-mapping.ts";
import type { ClosedEvent } from "../../../src/transport/endpoint.ts";

describe("a leg that ended", () => {
  test.each([
    { name: "the peer shut down", by: "peer", code: 4, application: true, how: "goodbye" },
    { name: "the peer had no error", by: "peer", code: 0, application: true, how: "goodbye" },
    { name: "the peer saw a violation", by: "peer", code: 1, application: true, how: "lost" },
    { name: "QUIC at the peer had an error", by: "peer", code: 0, application: false, how: "lost" },
    {
      name: "the certificate was revoked",
      by: "local",
      code: 5,
      application: true,
      how: "revoked",
    },
    {
      name: "the peer says that it was revoked",
      by: "peer",
      code: 5,
      application: true,
      how: "lost",
    },
    { name: "the certificate expired", by: "local", code: 2, application: true, how: "lost" },
    {
      name: "a frame was too long",
      by: "local",
      code: 1,
      application: true,
      how: "violation",
      detail: "why",
    },
    { name: "nothing was heard", by: "idle-timeout", code: 0, application: false, how: "lost" },
    {
      name: "the peer does not know it",
      by: "stateless-reset",
      code: 0,
      application: false,
      how: "lost",
    },
  ] as const)("because $name is $how", ({ by, code, application, ...rest }) => {
    const { name: _, ...expected } = rest;
    const event: ClosedEvent = {
      type: "closed",
      connection: 3,
      kind: "leg",
      by,
      code,
      application,
      reason: "why",
    };

    expect(inputOf(event, instant)).toEqual({ type: "closed", connection: 3, ...expected });
  });
});
