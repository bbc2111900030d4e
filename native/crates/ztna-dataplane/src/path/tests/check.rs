//! The silence clock of one path, step by step.

use std::time::{Duration, Instant};

use super::{CHECK_SPACING, Checks};
use crate::path::tests::t0;
use crate::stun::TransactionId;

#[test]
fn silence_is_never_shorter_than_40_ms_and_follows_round_trip_and_jitter() {
    let mut checks = Checks::default();
    answer(&mut checks, 1, 0, 2);
    assert_eq!(checks.silence(MIN), Duration::from_millis(40));

    let mut checks = Checks::default();
    answer(&mut checks, 1, 0, 100);
    assert_eq!(checks.silence(MIN), Duration::from_millis(150 + 20 + 2 * 50));
    (2..60).for_each(|n| answer(&mut checks, n, u64::from(n) * 200, 100));
    assert_eq!(checks.silence(MIN).as_millis(), 170, "steady round trips leave no jitter");
}

#[test]
fn one_unanswered_check_is_loss_and_two_at_least_15_ms_apart_are_silence() {
    let mut checks = with_rtt_10();
    send(&mut checks, 100, 1_000);
    assert_eq!(checks.silent_at(MIN), None);

    send(&mut checks, 101, 1_014);
    assert_eq!(checks.silent_at(MIN), None, "they fail together");

    send(&mut checks, 102, 1_015);
    assert_eq!(checks.silent_at(MIN), Some(at(1_040)));
}

#[test]
fn the_clock_starts_at_the_first_packet_that_deserves_an_answer_since_anything_was_heard() {
    let mut checks = with_rtt_10();
    checks.handle_quic_sent(at(990));
    checks.handle_quic_heard(at(995));
    checks.handle_quic_sent(at(1_000));
    checks.handle_quic_sent(at(1_010));
    send(&mut checks, 100, 1_015);
    send(&mut checks, 101, 1_030);

    assert_eq!(checks.waiting_since(), Some(at(1_000)));
    // T has passed at 1,040; the second check has had its round trip three milliseconds later.
    assert_eq!(checks.silent_at(MIN), Some(at(1_043)));
}

#[test]
fn packets_that_are_heard_put_silence_off_to_twice_t() {
    let mut checks = with_rtt_10();
    send(&mut checks, 100, 1_000);
    send(&mut checks, 101, 1_020);
    checks.handle_quic_heard(at(1_030));

    assert_eq!(checks.silent_at(MIN), Some(at(1_080)));
}

#[test]
fn an_answer_ends_every_clock_even_if_an_earlier_check_stays_unanswered() {
    let mut checks = with_rtt_10();
    send(&mut checks, 100, 1_000);
    send(&mut checks, 101, 1_020);

    let answered = checks.find(id(101), at(1_031)).unwrap();
    checks.handle_answer(answered, at(1_031));

    assert_eq!(checks.silent_at(MIN), None);
    assert_eq!(checks.first_unanswered(), None);
    assert!(checks.find(id(101), at(1_031)).is_none(), "once");
    assert_eq!(checks.row().0, 1, "a loss breaks the row");
}

#[test]
fn a_padded_check_starts_no_clock() {
    let mut checks = with_rtt_10();

    checks.handle_sent(id(100), 1, Some(1_440), None, at(1_000));
    checks.handle_sent(id(101), 1, Some(1_440), None, at(1_050));

    assert_eq!(checks.waiting_since(), None);
    assert_eq!(checks.silent_at(MIN), None);
}

#[test]
fn a_stall_shifts_the_clocks_and_its_round_trips_are_not_believed() {
    let mut checks = with_rtt_10();
    send(&mut checks, 100, 1_000);
    send(&mut checks, 101, 1_015);

    checks.handle_stall(Duration::from_millis(500));

    assert_eq!(checks.silent_at(MIN), Some(at(1_540)));
    let answered = checks.find(id(101), at(1_516)).unwrap();
    checks.handle_answer(answered, at(1_516));
    assert_eq!(checks.srtt(), Some(Duration::from_millis(10)));
}

#[test]
fn a_check_is_due_15_ms_after_the_last_arrival_unless_one_was_sent_since() {
    let mut checks = with_rtt_10();
    checks.handle_quic_heard(at(1_000));
    assert_eq!(checks.probe_at(), Some(at(1_000) + CHECK_SPACING));

    send(&mut checks, 100, 1_015);

    assert_eq!(checks.probe_at(), None);
}

#[test]
fn at_most_128_requests_are_under_way() {
    let mut checks = Checks::default();
    (0..128).for_each(|n| send(&mut checks, n, 0));
    assert!(checks.find(id(0), at(0)).is_some());

    send(&mut checks, 128, 0);

    assert!(checks.find(id(0), at(0)).is_none());
    assert!(checks.find(id(128), at(0)).is_some());
}

fn with_rtt_10() -> Checks {
    let mut checks = Checks::default();
    (0..60).for_each(|n| answer(&mut checks, n, u64::from(n), 10));
    checks
}

fn answer(checks: &mut Checks, n: u8, sent_ms: u64, rtt_ms: u64) {
    send(checks, n, sent_ms);
    let now = at(sent_ms + rtt_ms);
    let check = checks.find(id(n), now).unwrap();
    checks.handle_answer(check, now);
}

fn send(checks: &mut Checks, n: u8, at_ms: u64) {
    checks.handle_sent(id(n), 1, None, None, at(at_ms));
}

fn id(n: u8) -> TransactionId {
    TransactionId([n; 12])
}

fn at(ms: u64) -> Instant {
    t0() + Duration::from_millis(ms)
}

const MIN: Duration = Duration::from_millis(40);
