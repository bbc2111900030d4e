//! Links that come and go at random: what must hold whatever happens, and what must come right again.

use std::time::Duration;

use super::seeds;
use super::world::{AGENT, CONNECTOR, Link, World, direct, relayed};
use crate::path::PathSetEvent;

#[test]
fn after_any_trouble_both_sides_agree_on_a_living_path_and_data_flows() {
    for seed in seeds(0..12) {
        let mut world = random_world(seed);
        let mut rng = fastrand::Rng::with_seed(world.seed ^ 0xC0FFEE);
        for _ in 0..rng.u32(5..25) {
            trouble(&mut world, &mut rng);
            world.run_ms(rng.u64(1..800));
            assert_invariants(&world);
        }

        heal(&mut world);
        world.run_ms(8_000);

        assert_invariants(&world);
        assert!(world.selected(AGENT).is_some(), "seed={}", world.seed);
        assert_eq!(world.selected(AGENT), world.selected(CONNECTOR), "seed={}", world.seed);
        for side in &world.sides {
            let last = side.arrived.values().max().copied();
            let lately = last.is_some_and(|at| world.now - at < Duration::from_millis(100));
            assert!(lately, "data flows, seed={}", world.seed);
        }
    }
}

#[test]
fn a_path_that_flaps_is_held_back_ever_longer() {
    let mut world = World::new(1, &[relayed(40), direct(10)]);
    world.send_data(AGENT, 20_000, Some(200));
    world.send_data(CONNECTOR, 20_000, Some(200));
    world.run_ms(2_000);
    let mut waits = Vec::new();
    for _ in 0..5 {
        world.kill(1);
        world.run_ms(3_000);
        world.assert_selected(0);
        world.repair(1);
        let repaired_at = world.now;
        while world.selected(AGENT) != Some(1) {
            world.run_ms(50);
            assert!(world.now - repaired_at < Duration::from_secs(70), "it never returns");
        }
        waits.push((world.now - repaired_at).as_secs_f64());
    }

    assert!(waits[0] < 1.5 && waits[1] > 2.0, "{waits:?}");
    assert!(waits.windows(2).skip(1).all(|pair| pair[1] > 1.5 * pair[0]), "{waits:?}");
}

#[test]
fn an_idle_tunnel_costs_a_check_each_fifteen_seconds_and_path() {
    let mut world = World::new(1, &[relayed(20), relayed(40)]);
    world.run_ms(5_000);
    let before = world.sides.each_ref().map(|side| side.checks_sent);

    world.run_ms(600_000);

    for (side, before) in world.sides.iter().zip(before) {
        // Own checks and answers to the peer's.
        let sent = side.checks_sent - before;
        assert!((150..=170).contains(&sent), "{sent} packets in ten minutes");
    }
}

#[test]
fn a_silent_standby_path_is_noticed_and_asked_less_and_less() {
    let mut world = World::new(1, &[relayed(20), relayed(40)]);
    world.send_data(AGENT, 50_000, Some(200));
    world.run_ms(3_000);
    let active = checks_in(&mut world, 60_000);

    world.kill(1);
    world.run_ms(60_000);
    let one_dead = checks_in(&mut world, 60_000);

    world.assert_selected(0);
    assert!(one_dead < active, "{one_dead} checks beside {active}");
    let agent = &world.sides[AGENT];
    assert_eq!(agent.suspicions(), 1);
    let pinged =
        |event: &PathSetEvent| matches!(event, PathSetEvent::PingLegs { stranded: false, .. });
    assert_eq!(agent.count(pinged), 1);
}

fn checks_in(world: &mut World, millis: u64) -> u64 {
    let before = world.sides[AGENT].checks_sent;
    world.run_ms(millis);
    world.sides[AGENT].checks_sent - before
}

fn random_world(seed: u64) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let links: Vec<_> = (0..rng.usize(1..5))
        .map(|index| {
            let rtt = rng.u64(0..120);
            let link = if index > 0 && rng.bool() { direct(rtt) } else { relayed(rtt) };
            let jitter = Duration::from_millis(rng.u64(0..5));
            Link { jitter, loss: rng.u32(0..10), mtu: rng.usize(1_300..1_500), ..link }
        })
        .collect();
    let mut world = World::new(seed, &links);
    world.send_data(AGENT, rng.u64(5_000..50_000), None);
    world.send_data(CONNECTOR, rng.u64(5_000..50_000), None);
    world
}

fn trouble(world: &mut World, rng: &mut fastrand::Rng) {
    let link = rng.usize(..world.links.len());
    match rng.u8(..5) {
        0 => world.kill(link),
        1 => world.repair(link),
        2 => world.links[link].alive[rng.usize(..2)] ^= true,
        3 => world.links[link].delay = Duration::from_millis(rng.u64(0..100)),
        _ => world.links[link].loss = rng.u32(0..200),
    }
}

fn heal(world: &mut World) {
    for link in &mut world.links {
        link.alive = [true; 2];
        link.loss = 0;
    }
}

fn assert_invariants(world: &World) {
    for side in &world.sides {
        let size = side.set.datagram_size();
        assert!((1_200..=1_452).contains(&size) && size % 4 == 0, "seed={}", world.seed);
        assert_eq!(side.refused_as_forged, 0, "seed={}", world.seed);
        let relayed = side.ids.iter().flatten().any(|id| side.set.is_relayed(*id));
        assert!(side.set.selected().is_some() || !relayed, "seed={}", world.seed);
        // A direct path carries QUIC's packets only while a check on it was answered lately.
        let selected = side.set.snapshot().into_iter().find(|path| path.selected);
        let unproven = selected.is_some_and(|path| {
            path.state == "unproven" && matches!(path.name, crate::event::PathName::Direct(_))
        });
        assert!(!unproven, "seed={}", world.seed);
    }
}
