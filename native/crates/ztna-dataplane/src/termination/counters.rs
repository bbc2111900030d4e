//! What the termination did and dropped, for metrics.

/// Counts since the termination was created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub(crate) struct TerminationCounters {
    /// Packets that applications sent.
    pub packets_in: u64,
    /// Their octets.
    pub bytes_in: u64,
    /// Packets written towards applications by [`super::Termination::flush`].
    pub packets_out: u64,
    /// Their octets.
    pub bytes_out: u64,
    /// UDP datagrams and echo requests handed on.
    pub datagrams_in: u64,
    /// Dropped: headers that contradict themselves.
    pub malformed: u64,
    /// Dropped: from or to an address that is not a host's; multicast mostly.
    pub martian: u64,
    /// Dropped: checksum wrong.
    pub bad_checksum: u64,
    /// Dropped: neither TCP, UDP nor an echo request.
    pub unsupported: u64,
    /// Fragments that were dropped: overlap, timeout, too big, too many, or of TCP.
    pub fragments_dropped: u64,
    /// Packets put together from fragments.
    pub reassembled: u64,
    /// SYNs held until somebody decides.
    pub syns: u64,
    /// SYNs that came again while the first was held.
    pub syns_repeated: u64,
    /// Dropped: SYNs beyond the bound on held ones.
    pub syns_dropped: u64,
    /// Held SYNs that nobody decided on in time.
    pub syns_timed_out: u64,
    /// SYNs answered by RST because of the bound on flows.
    pub flows_refused: u64,
    /// Flows accepted.
    pub flows_opened: u64,
    /// Flows that ended: closed, reset or aborted.
    pub flows_ended: u64,
    /// TCP segments that belong to no flow, answered by RST.
    pub stray_segments: u64,
    /// Dropped: answers beyond the room for them between two calls of `flush`.
    pub replies_dropped: u64,
}
