//! The small rules by which two sides find out about each other quickly and agree again.

use std::net::SocketAddr;
use std::time::Duration;

use super::world::{AGENT, CONNECTOR, World, direct, relayed};
use super::{credentials, t0};
use crate::config::PathPolicy;
use crate::path::{CheckBudget, PathId, PathSet, PathSetEvent, PathSide};
use crate::stun::{self, Message};

#[test]
fn a_choice_is_told_at_0_50_150_and_350_ms_and_by_every_check_until_one_is_answered() {
    let mut set = agent();
    let first = set.add_relayed(relay(1), t0()).unwrap();
    let second = set.add_relayed(relay(2), t0()).unwrap();
    set.set_remote(1, credentials(2), t0());
    set.handle_timeout(t0());
    let check = transmit(&mut set).into_iter().find(|(path, _)| *path == second).unwrap().1;
    super::exchange::answer(&mut set, second, &check, &credentials(2), at(100));

    set.remove(first, at(1_000));

    let mut told = Vec::new();
    let mut last = Vec::new();
    for millis in 1_000..1_400 {
        if set.poll_timeout().is_some_and(|due| due <= at(millis)) {
            set.handle_timeout(at(millis));
        }
        for (path, packet) in transmit(&mut set) {
            let Message::Request(request) = stun::decode(&packet).unwrap().message else {
                continue;
            };
            if request.padding.is_none() {
                assert_eq!((path, request.use_candidate), (second, true));
                assert_eq!(request.selection, Some(1));
                told.push(millis - 1_000);
                last = packet;
            }
        }
    }
    for expected in [0, 50, 150, 350] {
        assert!(told.contains(&expected), "told at {told:?}");
    }

    super::exchange::answer(&mut set, second, &last, &credentials(2), at(1_400));
    set.handle_timeout(at(30_000));
    let after = transmit(&mut set).into_iter().map(|(_, packet)| packet).collect::<Vec<_>>();
    let chooses = |packet: &Vec<u8>| {
        let message = stun::decode(packet).unwrap().message;
        matches!(message, Message::Request(request) if request.use_candidate)
    };
    assert!(!after.is_empty() && !after.iter().any(chooses));
}

#[test]
fn a_connector_that_went_its_own_way_is_told_again() {
    let mut world = World::new(1, &[relayed(27), relayed(30)]);
    world.send_data(AGENT, 10_000, Some(200));
    world.send_data(CONNECTOR, 10_000, Some(200));
    world.run_ms(2_000);
    world.kill(0);
    world.run_ms(500);
    world.repair(0);
    world.run_ms(3_000);
    world.assert_selected(1);

    world.sides[CONNECTOR].set.selection.selected = world.sides[CONNECTOR].ids[0];
    world.run_ms(800);
    assert_eq!(world.selected(CONNECTOR), Some(0));

    world.run_ms(2_500);
    world.assert_selected(1);
}

#[test]
fn quic_packets_start_the_clock_only_where_the_peer_answers_them() {
    let mut set = agent();
    let first = set.add_relayed(relay(1), t0()).unwrap();
    let second = set.add_relayed(relay(2), t0()).unwrap();

    set.on_quic_sent(&[0x40; 200], 200, 0, t0());
    set.on_quic_received(second, 200, 1, t0());
    set.on_quic_sent(&[0x40; 200], 200, 0, t0());
    assert_eq!(set.path(first).unwrap().checks.waiting_since(), None);

    set.on_quic_received(first, 200, 1, t0());
    set.on_quic_sent(&[0x40; 100], 100, 0, t0());
    assert_eq!(set.path(first).unwrap().checks.waiting_since(), None, "an acknowledgement");
    set.on_quic_sent(&[0x40; 101], 101, 0, t0());
    assert_eq!(set.path(first).unwrap().checks.waiting_since(), Some(t0()));
}

#[test]
fn a_path_left_as_silent_returns_after_three_answers_over_300_ms_at_least() {
    let mut world = World::new(1, &[relayed(40), direct(10)]);
    world.send_data(AGENT, 5_000, Some(200));
    world.run_ms(2_000);
    world.kill(1);
    world.run_ms(600);
    world.assert_selected(0);

    world.repair(1);
    world.run_ms(2_000);

    world.assert_selected(1);
    let last = |wanted: fn(&PathSetEvent) -> bool| {
        let mut events = world.sides[AGENT].events.iter().rev();
        events.find(|(_, event)| wanted(event)).unwrap().0
    };
    let recovered = last(|event| matches!(event, PathSetEvent::Recovered { .. }));
    let selected = last(|event| matches!(event, PathSetEvent::Selected { .. }));
    let waited = selected - recovered;
    assert!((300..400).contains(&waited.as_millis()), "{waited:?}");
}

#[test]
fn unproven_direct_paths_are_asked_one_after_the_other() {
    let mut set = agent();
    set.set_remote(1, credentials(2), t0());
    for n in 1..=8 {
        set.add_direct(SocketAddr::from(([198, 51, 100, n], 4_434)), t0()).unwrap();
    }
    let mut sent = Vec::new();
    for millis in 0..400 {
        set.handle_timeout(at(millis));
        sent.extend(transmit(&mut set).into_iter().map(|_| millis));
    }

    assert!(sent.windows(2).take(19).all(|pair| pair[1] - pair[0] >= 5), "{sent:?}");
    assert!(sent.windows(2).skip(19).all(|pair| pair[1] - pair[0] >= 20), "{sent:?}");
    assert!(sent.len() > 24, "{sent:?}");
}

#[test]
fn suspicion_asks_every_other_path_at_once() {
    let mut world = World::new(1, &[relayed(10), relayed(30)]);
    let policy =
        PathPolicy { standby_check_interval: Duration::from_secs(5), ..PathPolicy::default() };
    for side in &mut world.sides {
        side.set.set_policy(policy.clone(), world.now);
    }
    world.send_data(AGENT, 1_000, Some(200));
    world.run_ms(13_000);
    let killed_at = world.now;
    world.kill(0);

    world.run_ms(150);

    world.assert_selected(1);
    let gap = world.sides[CONNECTOR].gap(killed_at, world.now);
    assert!(gap < Duration::from_millis(110), "{gap:?}");
}

#[test]
fn two_seconds_after_the_last_data_the_copies_memory_is_given_back() {
    let mut world = World::new(1, &[relayed(10), relayed(30)]);
    world.send_data(AGENT, 1_000, Some(1_200));
    world.run_ms(1_000);
    world.sides[AGENT].data = None;

    world.run_ms(1_990);
    assert!(world.sides[AGENT].set.traffic.ring.is_allocated());
    world.run_ms(100);
    assert!(!world.sides[AGENT].set.traffic.ring.is_allocated());
}

#[test]
fn quic_packets_on_a_silent_path_make_it_be_asked_at_once() {
    let mut world = World::new(1, &[relayed(10)]);
    world.send_data(AGENT, 5_000, Some(200));
    world.run_ms(1_000);
    world.kill(0);
    world.run_ms(20_000);
    let (now, path) = (world.now, PathId(0));
    let agent = &mut world.sides[AGENT].set;
    assert!(agent.poll_timeout().unwrap() > now);

    agent.on_quic_received(path, 40, 1, now + Duration::from_millis(15));

    assert!(agent.poll_timeout().unwrap() <= now + Duration::from_millis(15));
}

fn agent() -> PathSet {
    let mut n = 0_u32;
    let ids = Box::new(move || {
        n += 1;
        let mut id = [0xAA; 12];
        id[..4].copy_from_slice(&n.to_be_bytes());
        id
    });
    PathSet::new(PathSide::Agent, PathPolicy::default(), ids, CheckBudget::new(false), t0())
}

fn transmit(set: &mut PathSet) -> Vec<(PathId, Vec<u8>)> {
    let mut out = [0; 1_500];
    std::iter::from_fn(|| {
        set.poll_transmit(&mut out).map(|(path, size)| (path, out[..size].to_vec()))
    })
    .collect()
}

fn relay(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 4_433))
}

fn at(ms: u64) -> std::time::Instant {
    t0() + Duration::from_millis(ms)
}
