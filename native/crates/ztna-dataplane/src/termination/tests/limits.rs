//! Bounds, strays, and what is left when flows are gone.

use smoltcp::socket::tcp::State;

use super::world::{MODES, Mode, World, pattern};
use crate::termination::terminal::Pool;
use crate::termination::{TcpEvent, TcpRecvError};

#[test]
fn syns_are_held_up_to_the_bound_and_dropped_beyond_it() {
    let mut world = World::with_limits(MODES[0], 3, 100);
    for _ in 0..3 {
        world.connect();
        world.take_syn();
    }

    let past = world.connect();

    assert!(world.take_events().is_empty());
    assert_eq!(world.termination.counters().syns_dropped, 1);
    assert_eq!(world.socket(past).state(), State::SynSent);
}

#[test]
fn flows_are_taken_up_to_the_bound_and_refused_beyond_it() {
    let mut world = World::with_limits(MODES[0], 100, 2);
    world.established();
    world.established();

    let past = world.connect();

    assert!(world.take_events().is_empty());
    assert_eq!(world.termination.counters().flows_refused, 1);
    assert_eq!(world.socket(past).state(), State::Closed);
}

#[test]
fn a_decided_syn_makes_room_for_another() {
    let mut world = World::with_limits(MODES[0], 1, 100);
    for _ in 0..5 {
        world.established();
    }

    assert_eq!(world.termination.counters().syns_dropped, 0);
}

#[test]
fn connections_one_after_the_other_use_the_same_memory_and_see_none_of_each_other() {
    let mut world = World::new(MODES[0]);
    for round in 0..50_u8 {
        let (application, flow) = world.established();
        let octets = vec![round; 5_000];
        assert_eq!(world.upload(application, flow, &octets), octets);
        assert_eq!(world.download(application, flow, &octets), octets);
        if round % 2 == 0 {
            world.socket(application).abort();
        } else {
            world.socket(application).close();
            world.step();
            assert_eq!(world.drain(flow).1, TcpRecvError::Finished);
            world.termination.finish(flow);
        }
        world.step();
        world.take_events();
        assert_eq!(world.termination.flows(), 0);
        assert_eq!(world.termination.pool.len(), 1);
    }
}

#[test]
fn terminals_are_kept_up_to_the_bound_of_the_pool() {
    let mut world = World::new(MODES[0]);
    let flows: Vec<_> = (0..=Pool::TERMINALS_MAX).map(|_| world.established().1).collect();

    for flow in flows {
        world.termination.abort(flow, world.now);
    }
    world.step();

    assert_eq!(world.termination.pool.len(), Pool::TERMINALS_MAX);
}

#[test]
fn a_segment_of_no_flow_is_answered_by_a_reset_and_a_reset_by_nothing() {
    for v6 in [false, true] {
        let mut world = World::new(Mode { offload: true, v6 });
        let (application, flow) = world.established();
        world.termination.abort(flow, world.now);
        world.termination.flush(world.now, &mut |_, _| {});

        world.socket(application).send_slice(b"anybody there?").unwrap();
        world.step();

        assert_eq!(world.socket(application).state(), State::Closed);
        assert_eq!(world.termination.counters().stray_segments, 1);

        let (application, flow) = world.established();
        world.termination.abort(flow, world.now);
        world.termination.flush(world.now, &mut |_, _| {});
        world.captured.clear();
        world.socket(application).abort();
        world.step();

        assert!(world.captured.is_empty());
    }
}

#[test]
fn a_port_that_is_used_again_ends_the_flow_that_had_it() {
    let mut world = World::new(MODES[0]);
    let first = world.connect_from(50_000);
    let old = world.take_syn();
    world.sockets.remove(first);

    world.connect_from(50_000);

    match world.take_events().as_slice() {
        [TcpEvent::Reset { flow }, TcpEvent::Syn { flow: new, .. }] => {
            assert_eq!(*flow, old);
            assert_ne!(*new, old);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn before_a_scaled_window_was_offered_no_more_than_the_first_one_is_taken() {
    let mut world = World::new(Mode { offload: true, v6: true });
    world.record = true;
    world.established();
    let acknowledgement = world.recorded.last().unwrap().clone();
    let sequence = u32::from_be_bytes(*acknowledgement[44..].first_chunk().unwrap());
    for (end, dropped) in [(65_535, 0), (65_536, 1)] {
        let mut packet = [acknowledgement.as_slice(), &[7; 10]].concat();
        let length = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet[44..48].copy_from_slice(&sequence.wrapping_add(end - 10).to_be_bytes());

        world.inject(&mut packet);

        assert_eq!(world.termination.counters().malformed, dropped, "{end}");
    }
}

#[test]
fn a_handle_of_a_flow_that_ended_is_void() {
    let mut world = World::new(MODES[0]);
    let (_, flow) = world.established();
    world.termination.abort(flow, world.now);
    world.step();
    let (application, successor) = world.established();

    world.termination.abort(flow, world.now);
    world.termination.finish(flow);
    world.step();

    assert_eq!(world.drain(flow), (vec![], TcpRecvError::Reset));
    assert_eq!(world.termination.send_capacity(flow), 0);
    assert_eq!(world.upload(application, successor, &pattern(10)), pattern(10));
}

#[test]
fn many_flows_end_without_leaving_anything() {
    let mut world = World::new(MODES[0]);
    let flows: Vec<_> = (0..200).map(|_| world.established()).collect();
    for (index, &(application, flow)) in flows.iter().enumerate() {
        match index % 3 {
            0 => world.termination.abort(flow, world.now),
            1 => world.socket(application).abort(),
            _ => {
                world.termination.finish(flow);
                world.socket(application).close();
            }
        }
    }
    world.step();
    for &(_, flow) in &flows {
        world.drain(flow);
    }
    world.advance(std::time::Duration::from_secs(5));

    assert_eq!(world.termination.flows(), 0);
    assert_eq!(world.termination.poll_timeout(), None);
    let counters = world.termination.counters();
    assert_eq!((counters.flows_opened, counters.flows_ended), (200, 200));
}
