/**
 * Every maximum that a peer could otherwise grow, from `docs/protocol.md` §3, §5, §6 and §8.
 *
 * Sizes of the wire are fixed; what a role may configure has its default here. Where the protocol
 * names no figure, the constant says what it was derived from.
 */

/** Body of a control frame in octets, once the connection is admitted. */
export const CONTROL_FRAME_BYTES_MAX = 65_536;
/** Body of a control frame in octets before that. */
export const CONTROL_FRAME_BYTES_BEFORE_ADMISSION_MAX = 16_384;
/** Nesting of a control frame's JSON; the outermost object counts. */
export const JSON_DEPTH_MAX = 8;

/** Ends with a round trip of no more, in ms, are near: `rttMs` of a path. */
export const NEAR_RTT_MS = 5;

export const U16_MAX = 0xff_ff;
export const U32_MAX = 0xff_ff_ff_ff;

export const SERVICE_NAME_CHARS_MAX = 63;
export const TRUST_DOMAIN_CHARS_MAX = 253;
export const PEER_NAME_CHARS_MAX = 128;
export const SOFTWARE_CHARS_MAX = 64;
/** Of `reason`: one line of a log. */
export const REASON_CHARS_MAX = 256;
/** Of one feature name. */
export const FEATURE_CHARS_MAX = 64;
export const FEATURES_MAX = 32;

export const SERVICES_PER_CONNECTOR_MAX = 256;
export const SERVICES_PER_AGENT_MAX = 4096;
/** Services in one part of a `services` list. */
export const SERVICES_PER_PART_MAX = 200;
/** Parts of one list: the smallest parts that a sender may choose still end. */
export const SERVICE_PARTS_MAX = SERVICES_PER_AGENT_MAX;
/** Ports of one service: 200 services of 64 ports need several frames, one service never does. */
export const PORTS_PER_SERVICE_MAX = 64;
export const WEIGHT_MIN = 1;
export const WEIGHT_DEFAULT = 100;
export const WEIGHT_MAX = 1000;

export const SESSIONS_PER_AGENT_MAX = 256;
/** Session ids in one `register`: 36 KiB of the frame. A connector's other sessions are confirmed by their agents. */
export const SESSIONS_PER_REGISTER_MAX = 1024;
export const CHANNELS_PER_AGENT_LEG_MAX = 1024;
export const CHANNELS_PER_CONNECTOR_LEG_MAX = 65_536;
export const LEGS_PER_IDENTITY_MAX = 64;
/** Instances in `avoid`: more connectors of one service than anyone tries in a row. */
export const AVOID_MAX = 64;
/** Relays that forward for one pair. */
export const PATHS_PER_SESSION_MAX = 8;
/** Revocations in one `register-ok`; the others follow as `revoked`. */
export const REVOCATIONS_PER_REGISTER_MAX = 100;
/** DER of an issuer's name and of a serial number (RFC 5280 §4.1.2.2 allows 20 octets), in hex digits. */
export const ISSUER_HEX_CHARS_MAX = 4096;
export const SERIAL_HEX_CHARS_MAX = 64;
export const ALTERNATIVES_MAX = 16;
/** Certificates of a chain: a leaf and more intermediates than any CA in use has. */
export const CHAIN_CERTIFICATES_MAX = 8;
/** Base64 of one certificate: 12 KiB of DER. */
export const CERTIFICATE_BASE64_CHARS_MAX = 16_384;
/** Base64 of one signature: RSA 8192. */
export const SIGNATURE_BASE64_CHARS_MAX = 1368;

export const CANDIDATES_MAX = 24;
/** Checks of one coordinated attempt at hard NATs. */
export const SPRAY_PORTS_MAX = 1024;

export const AGENT_FRAMES_PER_SECOND = 64;
export const AGENT_FRAMES_BURST = 256;
/** A connector answers for many agents. */
export const CONNECTOR_FRAMES_FACTOR = 10;
