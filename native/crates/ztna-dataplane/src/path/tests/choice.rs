//! Which path is chosen while nothing is wrong, and how the two sides agree.

use std::net::SocketAddr;
use std::time::Duration;

use super::world::{AGENT, CONNECTOR, Link, World, direct, relayed};
use super::{credentials, t0};
use crate::config::{PathPolicy, PathPreference};
use crate::path::{CheckBudget, PathId, PathSet, PathSetEvent, PathSide};
use crate::stun::{Request, TransactionId};

#[test]
fn one_relayed_path_without_credentials_carries_quic_at_once_and_wants_nothing() {
    let mut set = connector();

    let id = set.add_relayed(RELAY, t0()).unwrap();

    assert_eq!(set.selected(), Some(id));
    assert!(set.may_receive(id, t0()) && set.is_relayed(id));
    assert_eq!(set.datagram_size(), 1_200);
    assert_eq!(set.poll_transmit(&mut [0; 1_500]), None);
    assert_eq!(set.poll_timeout(), None);
    assert_eq!(set.poll_event(), Some(PathSetEvent::Selected { path: id, reason: "first" }));
}

#[test]
fn before_credentials_were_exchanged_no_path_is_suspect() {
    let mut world = World::without_credentials(1, &[relayed(20), relayed(40)]);
    world.send_data(AGENT, 1_000, Some(200));
    world.run_ms(500);

    world.kill(0);
    world.run_ms(5_000);

    assert_eq!(world.sides.each_ref().map(super::world::Side::suspicions), [0, 0]);
    assert_eq!(world.sides[AGENT].checks_sent, 0);
    world.assert_selected(0);
}

#[test]
fn eight_paths_exist_at_most() {
    let mut set = connector();
    for port in 1..=8 {
        assert!(set.add_relayed(SocketAddr::from(([192, 0, 2, 1], port)), t0()).is_some());
    }

    assert_eq!(set.add_relayed(RELAY, t0()), None);
    set.remove(PathId(3), t0());
    assert_eq!(set.add_relayed(RELAY, t0()), Some(PathId(8)));
}

#[test]
fn a_direct_path_is_selected_as_soon_as_a_check_each_way_was_answered() {
    let mut world = World::new(1, &[relayed(30), direct(10)]);

    world.run_ms(60);

    world.assert_selected(1);
    for side in &world.sides {
        assert_eq!(side.suspicions(), 0);
    }
}

#[test]
fn nothing_is_sent_on_a_direct_path_that_answers_in_one_direction_only() {
    let mut world = World::new(1, &[relayed(30), direct(10)]);
    world.links[1].alive[CONNECTOR] = false;
    world.send_data(AGENT, 1_000, Some(200));
    world.send_data(CONNECTOR, 1_000, Some(200));

    world.run_ms(5_000);

    world.assert_selected(0);
}

#[test]
fn a_clearly_faster_relay_is_chosen_and_a_little_faster_one_is_not() {
    let mut world = World::new(1, &[relayed(80), relayed(20)]);
    world.send_data(AGENT, 10_000, Some(200));
    world.run_ms(6_000);
    world.assert_selected(1);

    let mut world = World::new(1, &[relayed(24), relayed(20)]);
    world.send_data(AGENT, 10_000, Some(200));
    world.run_ms(6_000);
    world.assert_selected(0);
}

#[test]
fn the_policy_decides_which_kind_may_carry_users() {
    for (preference, expected, carries) in [
        (PathPreference::PreferDirect, 1, true),
        (PathPreference::RelayOnly, 0, true),
        (PathPreference::RequireDirect, 1, true),
    ] {
        let mut world = World::new(1, &[relayed(30), direct(10)]);
        let now = world.now;
        let policy = PathPolicy { preference, ..PathPolicy::default() };
        world.sides[AGENT].set.set_policy(policy.clone(), now);
        world.sides[CONNECTOR].set.set_policy(policy, now);
        world.send_data(AGENT, 10_000, Some(200));
        world.run_ms(3_000);

        world.assert_selected(expected);
        assert_eq!(world.sides[AGENT].set.carries_users(), carries);
    }
    let mut set = connector();
    let preference = PathPreference::RequireDirect;
    set.set_policy(PathPolicy { preference, ..PathPolicy::default() }, t0());
    assert!(set.add_relayed(RELAY, t0()).is_some());
    assert!(set.selected().is_some() && !set.carries_users(), "QUIC itself may use the relay");
}

#[test]
fn a_choice_is_remembered_at_once_and_followed_when_the_path_is_proven() {
    let (mut set, first, second) = connector_with_two_paths();
    choose(&mut set, second, 5);
    assert_eq!(set.selected(), Some(first), "not proven yet");

    prove(&mut set, second, 0);
    assert_eq!(set.selected(), Some(second));

    prove(&mut set, first, 60);
    choose(&mut set, first, 5);
    choose(&mut set, first, 4);
    assert_eq!(set.selected(), Some(second), "numbers that are not higher change nothing");
    choose(&mut set, first, 6);
    assert_eq!(set.selected(), Some(first));
}

#[test]
fn an_agent_obeys_no_choice() {
    let mut world = World::new(1, &[relayed(20), relayed(20)]);
    world.run_ms(500);
    let agent = &mut world.sides[AGENT].set;
    let (first, second) = (agent.selected().unwrap(), PathId(1));
    assert_ne!(first, second);

    let mut packet = [0; 120];
    let request = Request {
        transaction: TransactionId([9; 12]),
        username: &credentials(1).ufrag,
        use_candidate: true,
        selection: Some(99),
        padding: None,
    };
    let size = request.encode(&credentials(1).password, &mut packet).unwrap();
    agent.handle_check(second, &packet[..size], world.now).unwrap();

    assert_eq!(agent.selected(), Some(first));
}

#[test]
fn until_the_agent_chooses_the_connector_sends_where_packets_come_from() {
    let (mut set, first, second) = connector_with_two_paths();

    set.on_quic_received(second, 1_200, 1, t0());
    assert_eq!(set.selected(), Some(second));

    set.on_quic_received(first, 1_200, 1, t0());
    assert_eq!(set.selected(), Some(first));
}

#[test]
fn a_removed_path_hands_its_tail_to_the_next() {
    let mut world = World::new(1, &[relayed(10), relayed(30)]);
    world.send_data(AGENT, 1_000, Some(300));
    world.run_ms(2_000);
    world.kill(0);
    world.run_ms(30);

    let now = world.now;
    for side in &mut world.sides {
        side.set.remove(side.ids[0].take().unwrap(), now);
    }
    world.run_ms(500);

    world.assert_selected(1);
    assert_eq!(world.sides[CONNECTOR].missing(), 0);
    let reason = PathSetEvent::Selected { path: PathId(1), reason: "removed" };
    assert_eq!(world.sides[AGENT].count(|event| *event == reason), 1);
}

#[test]
fn packets_are_built_to_what_both_the_path_in_use_and_its_successor_carry() {
    let carrying = |link: Link, mtu| Link { mtu, ..link };
    let mut world = World::new(1, &[carrying(relayed(20), 1_491), carrying(relayed(30), 1_339)]);
    world.send_data(AGENT, 2_000, None);
    world.run_ms(3_000);
    assert_eq!(world.sides[AGENT].set.datagram_size(), 1_320);

    world.kill(1);
    world.run_ms(3_000);
    assert_eq!(world.sides[AGENT].set.datagram_size(), 1_440, "a silent path takes nothing over");

    world.links[0].mtu = 1_260;
    let now = world.now;
    world.sides[AGENT].set.on_quic_lost(2, now);
    world.run_ms(2_000);
    assert_eq!(world.sides[AGENT].set.datagram_size(), 1_240);
    assert!(world.sides.iter().all(|side| side.missing() < 400));
}

#[test]
fn proof_of_a_direct_path_lapses_30_s_after_the_last_answer() {
    let mut world = World::new(1, &[direct(10)]);
    world.run_ms(1_000);
    world.assert_selected(0);
    let id = world.sides[AGENT].ids[0].unwrap();
    world.kill(0);
    world.run_ms(15_500);
    let agent = &world.sides[AGENT];
    assert_eq!(agent.count(|event| matches!(event, PathSetEvent::Lost { .. })), 0);

    world.run_ms(16_000);

    let agent = &world.sides[AGENT];
    assert_eq!(agent.count(|event| matches!(event, PathSetEvent::Lost { .. })), 1);
    assert!(!agent.set.may_receive(id, world.now));
    assert_eq!(agent.set.selected(), None, "nothing may be sent without consent");

    world.repair(0);
    world.run_ms(20_000);
    world.assert_selected(0);
}

fn connector() -> PathSet {
    let mut n = 0;
    let ids = Box::new(move || {
        n += 1;
        [n; 12]
    });
    let budget = CheckBudget::new(false);
    PathSet::new(PathSide::Connector, PathPolicy::default(), ids, budget, t0())
}

fn connector_with_two_paths() -> (PathSet, PathId, PathId) {
    let mut set = connector();
    let first = set.add_relayed(RELAY, t0()).unwrap();
    let second = set.add_relayed(SocketAddr::from(([192, 0, 2, 2], 4_433)), t0()).unwrap();
    set.set_local(credentials(2), t0());
    set.set_remote(1, credentials(1), t0());
    (set, first, second)
}

/// Sends a check that chooses a path to a connector.
fn choose(set: &mut PathSet, path: PathId, number: u32) {
    let mut packet = [0; 120];
    let request = Request {
        transaction: TransactionId([number as u8; 12]),
        username: &credentials(2).ufrag,
        use_candidate: true,
        selection: Some(number),
        padding: None,
    };
    let size = request.encode(&credentials(2).password, &mut packet).unwrap();
    set.handle_check(path, &packet[..size], t0()).unwrap();
}

/// Answers the checks of one path.
fn prove(set: &mut PathSet, path: PathId, at_ms: u64) {
    let now = t0() + Duration::from_millis(at_ms);
    set.handle_timeout(now);
    super::exchange::answer_checks(set, path, &credentials(1), now);
}

const RELAY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 4_433);
