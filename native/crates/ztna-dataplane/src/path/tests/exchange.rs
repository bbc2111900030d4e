//! What a peer's, a stranger's and nobody's checks can make a path set do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::t0;
use crate::command::Credentials;
use crate::path::fuzz::{PEER, check_one_path_packet, connector, credentials};
use crate::path::{CheckRefused, PathId, PathSet};
use crate::stun::{self, Message, Request, Response, TransactionId};

#[test]
fn a_request_is_answered_to_its_source_on_its_path_with_its_address() {
    let (mut set, relayed) = connector(t0());
    let direct = set.add_direct(PEER, t0()).unwrap();

    for (path, expected) in [(relayed, "0.0.0.0:0".parse().unwrap()), (direct, PEER)] {
        set.handle_check(path, &request(1), t0()).unwrap();

        let (to, packet) = transmit(&mut set).into_iter().next().unwrap();
        assert_eq!(to, path);
        let received = stun::decode(&packet).unwrap();
        assert!(received.verify(&credentials(2).password));
        let transaction = TransactionId([1; 12]);
        assert_eq!(received.message, Message::Response(Response { transaction, mapped: expected }));
    }
}

#[test]
fn what_does_not_verify_is_neither_answered_nor_remembered() {
    let (mut set, path) = connector(t0());
    let refusals = [
        (signed(1, &credentials(3)), CheckRefused::UnknownUfrag),
        (
            signed(1, &Credentials { password: "0".repeat(32), ..credentials(2) }),
            CheckRefused::WrongIntegrity,
        ),
        (response(7, &credentials(1)), CheckRefused::UnknownTransaction),
    ];
    for (packet, expected) in refusals {
        assert_eq!(set.handle_check(path, &packet, t0()), Err(expected));
        assert_eq!(
            set.handle_unknown_source(PEER, &packet, t0()).map_err(|refused| refused == expected),
            Err(true)
        );
    }

    assert_eq!(set.snapshot().len(), 1, "a stranger makes no path");
    assert_eq!(set.handle_check(PathId(9), &request(1), t0()), Err(CheckRefused::NoPath));
    assert!(transmit(&mut set).is_empty());
}

#[test]
fn a_valid_request_from_an_unknown_address_makes_it_a_path_that_is_checked_and_may_be_heard() {
    let (mut set, _) = connector(t0());
    set.set_remote(1, credentials(1), t0());

    let path = set.handle_unknown_source(PEER, &request(1), t0()).unwrap();

    assert!(set.may_receive(path, t0()));
    assert!(!set.may_receive(path, t0() + Duration::from_secs(30)));
    let kinds: Vec<_> = transmit(&mut set)
        .into_iter()
        .filter(|(to, _)| *to == path)
        .map(|(_, packet)| packet[..2].to_vec())
        .collect();
    assert_eq!(kinds, [vec![1, 1], vec![0, 1]], "an answer and an own check");
    assert_eq!(set.selected(), Some(PathId(0)), "it has proven nothing");
}

#[test]
fn a_response_counts_once_within_five_seconds_and_on_its_own_path() {
    let answer_time = Duration::from_secs(5);
    for (after, other_path, accepted) in [
        (answer_time, false, true),
        (answer_time + Duration::from_nanos(1), false, false),
        (Duration::ZERO, true, false),
    ] {
        let (mut set, path) = connector(t0());
        let other = set.add_relayed(SocketAddr::from(([192, 0, 2, 9], 1)), t0()).unwrap();
        set.set_remote(1, credentials(1), t0());
        let (_, check) = transmit(&mut set).into_iter().find(|(to, _)| *to == path).unwrap();
        let answer = answer_to(&check, &credentials(1));

        let to = if other_path { other } else { path };
        let first = set.handle_check(to, &answer, t0() + after);

        assert_eq!(first.is_ok(), accepted, "after {after:?}");
        let again = set.handle_check(to, &answer, t0() + after);
        assert_eq!(again, Err(CheckRefused::UnknownTransaction));
    }
}

#[test]
fn an_address_that_proves_nothing_gets_twenty_packets_at_once_and_no_more() {
    let (mut set, _) = connector(t0());
    set.set_remote(1, credentials(1), t0());
    let path = set.add_direct(PEER, t0()).unwrap();

    let answered = (0..40).filter(|_| set.handle_check(path, &request(1), t0()).is_ok()).count();
    let sent = transmit(&mut set).into_iter().filter(|(to, _)| *to == path).count();

    assert_eq!((answered, sent), (20, 20), "answers and checks spend one budget");
    assert_eq!(set.handle_check(path, &request(1), t0()), Err(CheckRefused::OverBudget));
}

#[test]
fn sixty_four_answers_wait_and_the_next_request_is_refused() {
    let (mut set, path) = connector(t0());

    assert!((0..64).all(|_| set.handle_check(path, &request(1), t0()).is_ok()));
    assert_eq!(set.handle_check(path, &request(1), t0()), Err(CheckRefused::TooMany));
}

#[test]
fn an_unanswered_direct_path_is_asked_at_its_times_and_given_up() {
    let (mut set, relayed) = connector(t0());
    set.remove(relayed, t0());
    set.set_remote(1, credentials(1), t0());
    let path = set.add_direct(PEER, t0()).unwrap();
    let mut sent = Vec::new();
    for millis in 0..8_000 {
        let now = t0() + Duration::from_millis(millis);
        if set.poll_timeout().is_some_and(|at| at <= now) {
            set.handle_timeout(now);
        }
        let checks = transmit(&mut set).into_iter().filter(|(to, _)| *to == path);
        sent.extend(checks.map(|_| millis));
    }

    assert_eq!(sent, [0, 50, 150, 350, 750, 1_550]);
    assert!(set.name(path).is_none());
}

#[test]
fn forbidden_addresses_are_no_paths() {
    let (mut set, _) = connector(t0());
    for remote in ["127.0.0.1:4434", "169.254.169.254:80", "[ff02::1]:4434", "198.51.100.1:0"] {
        assert_eq!(set.add_direct(remote.parse().unwrap(), t0()), None, "{remote}");
    }
}

#[test]
fn hostile_checks_never_panic_and_leave_nothing_behind() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut set, path) = connector(t0());
    set.set_remote(1, credentials(1), t0());
    let corpus = [request(1), response(1, &credentials(1)), response(2, &credentials(2))];
    for round in 0..200_000_u64 {
        let mut data = corpus[rng.usize(..corpus.len())].clone();
        let at = rng.usize(..data.len());
        match rng.u8(..4) {
            0 => data[at] = rng.u8(..),
            1 => data.truncate(at),
            2 => data[at] ^= 1 << rng.u8(..8),
            _ => data.fill_with(|| rng.u8(..)),
        }
        if data == corpus[0] {
            continue;
        }
        check_one_path_packet(&mut set, path, &data, t0() + Duration::from_micros(round));
    }

    assert_eq!(set.snapshot().len(), 1, "seed={seed}");
    assert_eq!(set.selected(), Some(path), "seed={seed}");
}

/// Answers every check that a set has to send on one path.
pub(super) fn answer_checks(set: &mut PathSet, path: PathId, peer: &Credentials, now: Instant) {
    for (to, packet) in transmit(set) {
        if to == path && packet[..2] == [0, 1] {
            answer(set, path, &packet, peer, now);
        }
    }
}

/// Answers one check.
pub(super) fn answer(
    set: &mut PathSet,
    path: PathId,
    check: &[u8],
    peer: &Credentials,
    now: Instant,
) {
    set.handle_check(path, &answer_to(check, peer), now).unwrap();
}

fn answer_to(check: &[u8], peer: &Credentials) -> Vec<u8> {
    let Message::Request(request) = stun::decode(check).unwrap().message else {
        panic!("a check is a request");
    };
    assert_eq!(request.username, peer.ufrag);
    encode_response(request.transaction, peer)
}

fn response(n: u8, peer: &Credentials) -> Vec<u8> {
    encode_response(TransactionId([n; 12]), peer)
}

fn encode_response(transaction: TransactionId, peer: &Credentials) -> Vec<u8> {
    let mut packet = vec![0; 120];
    let mapped = "0.0.0.0:0".parse().unwrap();
    let size = Response { transaction, mapped }.encode(&peer.password, &mut packet).unwrap();
    packet.truncate(size);
    packet
}

fn request(n: u8) -> Vec<u8> {
    signed(n, &credentials(2))
}

fn signed(n: u8, receiver: &Credentials) -> Vec<u8> {
    let mut packet = vec![0; 120];
    let request = Request {
        transaction: TransactionId([n; 12]),
        username: &receiver.ufrag,
        use_candidate: false,
        selection: None,
        padding: None,
    };
    let size = request.encode(&receiver.password, &mut packet).unwrap();
    packet.truncate(size);
    packet
}

fn transmit(set: &mut PathSet) -> Vec<(PathId, Vec<u8>)> {
    let mut out = [0; 1_500];
    std::iter::from_fn(|| {
        set.poll_transmit(&mut out).map(|(path, size)| (path, out[..size].to_vec()))
    })
    .collect()
}
