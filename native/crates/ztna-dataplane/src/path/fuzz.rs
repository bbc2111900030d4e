//! What no check can do that the peer did not sign.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use std::net::SocketAddr;
use std::time::Instant;

use super::{CheckBudget, PathId, PathSet, PathSide};
use crate::command::Credentials;
use crate::config::PathPolicy;

pub(super) const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)), 4_434);

/// Whatever is not signed by the peer is refused and changes nothing that grows.
pub(crate) fn check_one_path_packet(set: &mut PathSet, path: PathId, data: &[u8], now: Instant) {
    assert!(set.handle_check(path, data, now).is_err());
    assert!(set.handle_unknown_source(PEER, data, now).is_err());
    assert!(set.answers.is_empty());
}

pub(crate) fn connector(now: Instant) -> (PathSet, PathId) {
    let mut n = 0_u32;
    let ids = Box::new(move || {
        n += 1;
        let mut id = [0xEE; 12];
        id[..4].copy_from_slice(&n.to_be_bytes());
        id
    });
    let budget = CheckBudget::new(false);
    let mut set = PathSet::new(PathSide::Connector, PathPolicy::default(), ids, budget, now);
    set.set_local(credentials(2), now);
    let path = set.add_relayed(SocketAddr::from(([192, 0, 2, 1], 4_433)), now).unwrap();
    (set, path)
}

pub(crate) fn credentials(n: u32) -> Credentials {
    Credentials { ufrag: format!("{n:016x}"), password: format!("{n:032x}") }
}
