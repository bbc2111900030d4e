/**
 * Whom a client of a relay accepts at the other end of its connections.
 *
 * - **A relay** was dialled, has the role, and its leaf names the host that was dialled or the name
 *   that the configuration pins.
 * - **A connector** was dialled by an agent, **an agent** dialled a connector: role and usage must fit.
 *
 * Which service a peer may use or provide is asked later, of its grants.
 */
import { err, type Result } from "../base/result.ts";
import {
  type IdentityConfig,
  judgeLeaf,
  type LeafInfo,
  type Nobody,
  type ProvenPeer,
} from "../policy/identity.ts";
import { isRelayNamed } from "../policy/relay-name.ts";

export type JudgePeer = (
  leaf: LeafInfo,
) => Result<ProvenPeer, Nobody | { readonly reason: "wrong-name"; readonly detail: string }>;

/** @param name the host as dialled without port and brackets, or the pinned name. */
export function relayJudge(name: string, config: () => IdentityConfig): JudgePeer {
  return (leaf) => {
    const peer = judgeLeaf(leaf, { peer: "was-dialled", roles: ["relay"] }, config());
    if (!peer.ok || isRelayNamed(leaf, name)) return peer;

    const named = [...leaf.dnsNames, ...leaf.ipAddresses].join(", ").slice(0, NAMES_CHARS_MAX);
    return err({ reason: "wrong-name", detail: `certificate names ${named}, dialled ${name}` });
  };
}

export function connectorJudge(config: () => IdentityConfig): JudgePeer {
  return (leaf) => judgeLeaf(leaf, { peer: "was-dialled", roles: ["connector"] }, config());
}

export function agentJudge(config: () => IdentityConfig): JudgePeer {
  return (leaf) => judgeLeaf(leaf, { peer: "dialled-us", roles: ["agent"] }, config());
}

const NAMES_CHARS_MAX = 200;
