//! Silence: who notices, how soon, where the traffic goes and what is lost.

use std::time::Duration;

use super::seeds;
use super::world::{AGENT, CONNECTOR, World, direct, relayed};
use crate::path::PathSetEvent;

#[test]
fn a_dead_path_is_left_by_both_sides_within_its_silence_and_nothing_is_lost() {
    for (rtt, other, limit_ms) in [(0, 0, 45), (10, 30, 62), (40, 80, 130)] {
        for phase in 0..4 {
            let mut world = two_paths(phase, rtt, other);
            world.send_data(AGENT, 1_000, Some(200));
            world.send_data(CONNECTOR, 1_000, Some(200));
            world.run_ms(1_500);
            world.assert_selected(0);
            world.run_until(world.now + Duration::from_micros(phase * 11_700));

            let killed_at = world.now;
            world.kill(0);
            world.run_ms(1_000);

            world.assert_selected(1);
            for side in &world.sides {
                let gap = side.gap(killed_at, world.now);
                let limit = Duration::from_millis(limit_ms);
                assert!(gap <= limit, "rtt {rtt}: {gap:?} without an arrival, seed={phase}");
                assert_eq!(side.missing(), 0, "rtt {rtt} phase {phase}");
            }
        }
    }
}

#[test]
fn a_side_that_only_receives_notices_as_the_other_does() {
    for sender in [AGENT, CONNECTOR] {
        let mut world = two_paths(1, 10, 30);
        world.send_data(sender, 500, None);
        world.run_ms(3_000);

        let killed_at = world.now;
        world.kill(0);
        world.run_ms(500);

        world.assert_selected(1);
        let receiver = &world.sides[1 - sender];
        assert!(receiver.gap(killed_at, world.now) < Duration::from_millis(75));
        assert_eq!(receiver.missing(), 0);
    }
}

#[test]
fn the_smallest_datagrams_are_data_like_any_other() {
    let mut world = two_paths(1, 10, 30);
    world.run_ms(10_000);
    world.send_data(AGENT, 5_000, Some(33));
    world.send_data(CONNECTOR, 5_000, Some(33));
    world.run_ms(500);

    let killed_at = world.now;
    world.kill(0);
    world.run_ms(1_000);

    world.assert_selected(1);
    for side in &world.sides {
        assert!(side.gap(killed_at, world.now) < Duration::from_millis(100));
        assert_eq!(side.missing(), 0);
    }
}

#[test]
fn a_quiet_conversation_notices_too() {
    let mut world = two_paths(1, 20, 40);
    world.send_data(AGENT, 400_000, Some(80));
    world.run_ms(3_000);

    let killed_at = world.now;
    world.kill(0);
    world.run_ms(500);

    world.assert_selected(1);
    let noticed = world.sides[AGENT].first(|event| matches!(event, PathSetEvent::Suspect { .. }));
    assert!(noticed.unwrap() - killed_at < Duration::from_millis(130));
}

#[test]
fn one_dead_direction_is_noticed_although_packets_are_heard() {
    for dead in [AGENT, CONNECTOR] {
        let mut world = two_paths(1, 10, 30);
        world.send_data(AGENT, 1_000, Some(200));
        world.send_data(CONNECTOR, 1_000, Some(200));
        world.run_ms(3_000);

        let killed_at = world.now;
        world.links[0].alive[dead] = false;
        world.run_ms(1_000);

        world.assert_selected(1);
        for side in &world.sides {
            assert!(side.gap(killed_at, world.now) < Duration::from_millis(170));
            assert_eq!(side.missing(), 0);
        }
    }
}

#[test]
fn a_lone_path_is_suspected_and_kept_and_its_leg_is_pinged() {
    let mut world = World::new(1, &[relayed(20)]);
    world.send_data(AGENT, 1_000, Some(200));
    world.run_ms(2_000);

    world.kill(0);
    world.run_ms(900);

    world.assert_selected(0);
    let agent = &world.sides[AGENT];
    assert_eq!(agent.count(|event| matches!(event, PathSetEvent::PingLegs { .. })), 1);
    assert_eq!(agent.count(|event| *event == PathSetEvent::AllSilent(true)), 0);
    world.run_ms(300);
    let agent = &world.sides[AGENT];
    assert_eq!(agent.count(|event| *event == PathSetEvent::AllSilent(true)), 1);
}

#[test]
fn after_a_total_outage_the_newest_packets_open_the_full_window() {
    for paths in [1, 2] {
        let links = [relayed(10), relayed(30)];
        let mut world = World::new(1, &links[..paths]);
        world.send_data(AGENT, 1_000, None);
        world.send_data(CONNECTOR, 1_000, None);
        world.run_ms(3_000);
        (0..paths).for_each(|link| world.kill(link));
        world.run_ms(10_000);
        let sent = world.sides.each_ref().map(|side| side.data_sent);
        world.run_ms(100);
        assert_eq!(sent, world.sides.each_ref().map(|side| side.data_sent), "both are stuck");

        let repaired_at = world.now;
        (0..paths).for_each(|link| world.repair(link));
        world.run_ms(2_000);

        for side in &world.sides {
            let resumed = side.arrived.values().find(|at| **at > repaired_at).unwrap();
            assert!(*resumed - repaired_at < Duration::from_millis(1_100), "{paths} paths");
            let last = *side.arrived.last_key_value().unwrap().1;
            assert!(world.now - last < Duration::from_millis(60), "it goes on");
            assert_eq!(side.count(|event| *event == PathSetEvent::AllSilent(false)), 1);
        }
    }
}

#[test]
fn an_outage_shorter_than_a_second_is_replayed_in_full() {
    let mut world = two_paths(1, 10, 30);
    world.send_data(AGENT, 5_000, Some(200));
    world.run_ms(3_000);
    world.kill(0);
    world.kill(1);
    world.run_ms(400);

    world.repair(1);
    world.run_ms(1_500);

    world.assert_selected(1);
    assert_eq!(world.sides[CONNECTOR].missing(), 0);
}

#[test]
fn jitter_below_the_margin_never_raises_suspicion() {
    let mut world = two_paths(3, 30, 50);
    world.links.iter_mut().for_each(|link| link.jitter = Duration::from_millis(8));
    world.send_data(AGENT, 10_000, Some(300));
    world.send_data(CONNECTOR, 30_000, Some(90));

    world.run_ms(60_000);

    assert_eq!(world.sides.each_ref().map(super::world::Side::suspicions), [0, 0]);
}

#[test]
fn a_hundredth_of_loss_hardly_ever_raises_suspicion() {
    let mut alarms = 0;
    for seed in seeds(0..5) {
        let mut world = two_paths(seed, 20, 40);
        world.links.iter_mut().for_each(|link| link.loss = 10);
        world.send_data(AGENT, 25_000, Some(300));
        world.send_data(CONNECTOR, 200_000, Some(90));
        world.run_ms(60_000);
        alarms += world.sides.iter().map(super::world::Side::suspicions).sum::<usize>();
    }

    assert!(alarms <= 1, "{alarms} false alarms in ten side-minutes");
}

#[test]
fn a_direct_path_that_dies_and_comes_back_is_left_and_taken_again() {
    let mut world = World::new(1, &[relayed(30), direct(10)]);
    world.send_data(AGENT, 1_000, Some(200));
    world.send_data(CONNECTOR, 1_000, Some(200));
    world.run_ms(3_000);
    world.assert_selected(1);
    world.kill(1);
    world.run_ms(2_000);
    world.assert_selected(0);

    let repaired_at = world.now;
    world.repair(1);
    world.run_ms(3_000);

    world.assert_selected(1);
    let back = world.sides[AGENT].events.iter().rev();
    let mut back = back.filter(|(_, event)| matches!(event, PathSetEvent::Selected { .. }));
    let returned_after = back.next().unwrap().0 - repaired_at;
    let expected = Duration::from_millis(300)..Duration::from_millis(1_500);
    assert!(expected.contains(&returned_after), "returned after {returned_after:?}");
    assert!(world.sides.iter().all(|side| side.missing() == 0));
}

#[test]
fn a_stall_of_this_side_is_no_silence_of_the_path() {
    for told in [true, false] {
        let mut world = two_paths(1, 10, 30);
        world.send_data(AGENT, 1_000, Some(200));
        world.run_ms(3_000);
        let now = world.now;
        world.sides[AGENT].set.on_quic_sent(&[0x40; 200], 200, 0, now);

        let later = now + Duration::from_millis(400);
        let agent = &mut world.sides[AGENT].set;
        if told {
            agent.handle_stall(Duration::from_millis(400));
        }
        let mut out = [0; 1_500];
        for millis in [0, 16, 34] {
            agent.handle_timeout(later + Duration::from_millis(millis));
            while agent.poll_transmit(&mut out).is_some() {}
        }
        let mut events = std::iter::from_fn(|| agent.poll_event());
        let suspected = events.any(|event| matches!(event, PathSetEvent::Suspect { .. }));

        assert_eq!(suspected, !told);
    }
}

fn two_paths(seed: u64, rtt_ms: u64, other_ms: u64) -> World {
    World::new(seed, &[relayed(rtt_ms), relayed(other_ms)])
}
