//! What the copies hold, give up and give back.

use std::time::Duration;

use super::*;
use crate::path::tests::t0;

#[test]
fn what_was_sent_after_an_instant_comes_back_in_order_and_octet_for_octet() {
    let mut ring = ReplayRing::default();
    for n in 0..10_u8 {
        ring.record(&train(n, 3, 200), 200, 0, RING_BYTES_MIN, at(n.into()));
    }

    ring.replay_since(at(6));

    let expected: Vec<_> = (7..10).flat_map(|n| packets(n, 3, 200)).collect();
    assert_eq!(drain(&mut ring), expected);
}

#[test]
fn a_replay_of_nothing_young_is_the_last_packet_alone() {
    let mut ring = ReplayRing::default();
    ring.record(&train(1, 3, 200)[..500], 200, 0, RING_BYTES_MIN, at(1));

    ring.replay_since(at(5));

    assert_eq!(drain(&mut ring), [train(1, 3, 200)[400..500].to_vec()]);
}

#[test]
fn the_last_packet_outlives_the_memory_and_is_not_used_up() {
    let mut ring = ReplayRing::default();
    ring.record(&train(1, 2, 300), 300, 0, RING_BYTES_MIN, at(1));
    ring.release();
    assert!(!ring.is_allocated());

    for _ in 0..2 {
        ring.replay_since(at(0));
        assert_eq!(drain(&mut ring), [packets(1, 2, 300)[1].clone()]);
    }
    ring.replay_newest(8);
    assert_eq!(drain(&mut ring), [packets(1, 2, 300)[1].clone()]);
}

#[test]
fn the_prefix_of_the_old_path_is_no_part_of_what_is_replayed() {
    let mut ring = ReplayRing::default();
    ring.record(&train(1, 3, 200), 200, 9, RING_BYTES_MIN, at(1));
    let sent = packets(1, 3, 200);
    let expected: Vec<_> = sent.iter().map(|packet| packet[9..].to_vec()).collect();

    ring.replay_since(at(0));
    assert_eq!(drain(&mut ring), expected);

    ring.release();
    ring.replay_newest(1);
    assert_eq!(drain(&mut ring), expected[2..]);
}

#[test]
fn the_last_acknowledgement_goes_first() {
    let mut ring = ReplayRing::default();
    ring.record(&train(1, 1, 300), 300, 0, RING_BYTES_MIN, at(1));
    ring.record_short(&train(2, 3, 40)[..100], 40, 9);

    ring.replay_since(at(0));

    assert_eq!(drain(&mut ring), [train(2, 3, 40)[89..100].to_vec(), train(1, 1, 300)]);
}

#[test]
fn the_newest_packets_are_counted_across_trains() {
    let mut ring = ReplayRing::default();
    (0..3).for_each(|n| ring.record(&train(n, 3, 200), 200, 0, RING_BYTES_MIN, at(0)));

    ring.replay_newest(4);

    let expected = [&packets(1, 3, 200)[2..], &packets(2, 3, 200)[..]].concat();
    assert_eq!(drain(&mut ring), expected);
}

#[test]
fn the_ring_holds_its_limit_and_gives_up_the_oldest_beyond_it() {
    let mut ring = ReplayRing::default();
    let fits = RING_BYTES_MIN / 1_024;
    for n in 0..fits {
        ring.record(&train(n as u8, 1, 1_024), 1_024, 0, RING_BYTES_MIN, at(n as u64));
    }
    assert_eq!((ring.trains.len(), ring.buffer.len()), (fits, RING_BYTES_MIN));

    ring.record(&train(99, 1, 1_024), 1_024, 0, RING_BYTES_MIN, at(99));

    assert_eq!((ring.trains.len(), ring.buffer.len()), (fits, RING_BYTES_MIN));
    ring.replay_newest(usize::MAX);
    assert_eq!(drain(&mut ring).first(), Some(&train(1, 1, 1_024)));
}

#[test]
fn a_train_larger_than_the_ring_leaves_its_end() {
    let mut ring = ReplayRing::default();
    ring.record(&train(7, 60, 1_000), 1_000, 0, RING_BYTES_ONE_PATH, at(0));

    ring.replay_newest(usize::MAX);

    assert_eq!(drain(&mut ring), packets(7, 60, 1_000)[48..]);
}

#[test]
fn nothing_takes_more_than_two_mebibytes() {
    let mut ring = ReplayRing::default();
    for n in 0..200_u8 {
        ring.record(&train(n, 45, 1_400), 1_400, 0, usize::MAX, at(n.into()));
    }

    assert_eq!(ring.buffer.len(), RING_BYTES_MAX);
    assert!(ring.trains.len() >= 32, "{} trains held", ring.trains.len());
}

#[test]
fn random_trains_come_back_as_they_went_in_whatever_is_overwritten() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut ring = ReplayRing::default();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for step in 0..1_500_u64 {
        let (count, size) = (rng.usize(1..20), rng.usize(1..1_453));
        let octets: Vec<_> = (0..count * size).map(|_| rng.u8(..)).collect();
        let octets = &octets[..octets.len() - rng.usize(..size)];
        ring.record(octets, size, 0, 1 << rng.u32(15..18), at(step));
        sent.extend(octets.chunks(size).map(<[u8]>::to_vec));
        sent.drain(..sent.len().saturating_sub(4_000));
        if rng.u8(..) < 4 {
            ring.replay_newest(rng.usize(1..200));
            let replayed = drain(&mut ring);
            assert!(sent.ends_with(&replayed) && !replayed.is_empty(), "seed={seed}");
        }
        if rng.u8(..) == 0 {
            ring.release();
        }
    }
}

fn drain(ring: &mut ReplayRing) -> Vec<Vec<u8>> {
    let mut out = [0; 1_500];
    std::iter::from_fn(|| ring.next_packet(&mut out).map(|size| out[..size].to_vec())).collect()
}

fn train(n: u8, count: usize, size: usize) -> Vec<u8> {
    packets(n, count, size).concat()
}

fn packets(n: u8, count: usize, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![n.wrapping_mul(64).wrapping_add(index as u8); size]).collect()
}

fn at(ms: u64) -> Instant {
    t0() + Duration::from_millis(ms)
}
