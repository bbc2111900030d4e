//! What a relay counts of its channels: a closed set of drops, and what was carried.

/// Why a frame was not forwarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ChannelDrop {
    /// Shorter than the smallest frame.
    #[error("too short")]
    TooShort,
    /// Longer than the largest frame.
    #[error("too long")]
    TooLong,
    /// The frame or its payload begins with an octet that no tunnel sends.
    #[error("not a channel frame")]
    Malformed,
    /// No channel has this id.
    #[error("unknown channel")]
    UnknownChannel,
    /// It did not come from the address of the channel's leg.
    #[error("wrong source")]
    WrongSource,
    /// One of the two legs is lost.
    #[error("suspended")]
    Suspended,
    /// The channel's rate is spent.
    #[error("rate exceeded")]
    RateExceeded,
}

impl ChannelDrop {
    /// Every reason, in the order of [`ChannelCounters::drops`].
    pub(crate) const ALL: [Self; 7] = [
        Self::TooShort,
        Self::TooLong,
        Self::Malformed,
        Self::UnknownChannel,
        Self::WrongSource,
        Self::Suspended,
        Self::RateExceeded,
    ];

    /// Returns the name of its counter.
    pub(crate) const fn counter(self) -> &'static str {
        match self {
            Self::TooShort => "channel_drops_too_short",
            Self::TooLong => "channel_drops_too_long",
            Self::Malformed => "channel_drops_malformed",
            Self::UnknownChannel => "channel_drops_unknown_channel",
            Self::WrongSource => "channel_drops_wrong_source",
            Self::Suspended => "channel_drops_suspended",
            Self::RateExceeded => "channel_drops_rate_exceeded",
        }
    }
}

/// Monotonic figures of all channels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ChannelCounters {
    /// Frames forwarded.
    pub packets: u64,
    /// Octets of their payloads.
    pub bytes: u64,
    pub(super) drops: [u64; ChannelDrop::ALL.len()],
}

impl ChannelCounters {
    /// Returns how many frames were dropped for each reason.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (ChannelDrop, u64)> {
        ChannelDrop::ALL.into_iter().zip(self.drops)
    }
}
