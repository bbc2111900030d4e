//! What an application sees of its TCP connections.

use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::world::{APPLICATION_RING, MODES, MTU, Mode, World, pattern};
use crate::termination::terminal::RING;
use crate::termination::{SYN_HELD_MAX, TcpEvent, TcpRecvError, TcpRefusal, TcpSendError};
use crate::tun::vnet::VnetHeader;

#[test]
fn a_connection_carries_a_mebibyte_each_way_unharmed() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        let octets = pattern(1 << 20);

        let up = world.upload(application, flow, &octets);
        let down = world.download(application, flow, &octets);

        assert!(up == octets && down == octets, "{mode:?}");
    }
}

#[test]
fn data_beyond_one_segment_leaves_as_a_super_segment_that_the_kernel_can_cut() {
    for v6 in [false, true] {
        let mut world = World::new(Mode { offload: true, v6 });
        let (_, flow) = world.established();
        world.captured.clear();

        world.fill(flow, &pattern(60_000));
        world.flush();

        let (header, packet) = world.captured.first().unwrap();
        let (headers, kind) =
            if v6 { (60, VnetHeader::GSO_TCPV6) } else { (40, VnetHeader::GSO_TCPV4) };
        assert_eq!(packet.len(), headers + 60_000);
        assert_eq!((header.gso_type, header.gso_size), (kind, MTU - headers as u16));
        assert_eq!(header.flags, VnetHeader::FLAG_NEEDS_CSUM);
    }
}

#[test]
fn without_offload_no_packet_exceeds_the_mtu() {
    let mut world = World::new(Mode { offload: false, v6: false });
    let (_, flow) = world.established();

    world.fill(flow, &pattern(60_000));
    world.flush();

    assert!(
        world
            .captured
            .iter()
            .all(|(header, packet)| { packet.len() <= MTU.into() && *header == VnetHeader::PLAIN })
    );
}

#[test]
fn a_connection_waits_for_the_decision_and_its_repeated_syns_are_swallowed() {
    for mode in MODES {
        let mut world = World::new(mode);
        let application = world.connect();
        let flow = world.take_syn();

        world.advance(Duration::from_millis(2_500));

        assert_eq!(world.socket(application).state(), State::SynSent);
        assert!(world.termination.counters().syns_repeated > 0);
        assert!(world.captured.is_empty() && world.take_events().is_empty());
        assert_eq!(world.drain(flow), (vec![], TcpRecvError::Empty));
        assert_eq!(world.termination.send(flow, |_| panic!("not connected")), Ok(0));

        world.termination.accept(flow, world.now);
        world.step();
        assert_eq!(world.socket(application).state(), State::Established);
    }
}

#[test]
fn a_syn_that_nobody_decides_on_is_reset_after_ten_seconds() {
    let mut world = World::new(MODES[0]);
    let application = world.connect();
    let flow = world.take_syn();

    world.advance(SYN_HELD_MAX - Duration::from_millis(1));
    assert_eq!(world.socket(application).state(), State::SynSent);

    world.advance(Duration::from_millis(1));
    assert_eq!(world.socket(application).state(), State::Closed);
    assert_eq!(world.take_events(), [TcpEvent::Reset { flow }]);
    assert_eq!(world.termination.flows(), 0);
}

#[test]
fn a_refusal_reaches_the_application_as_a_reset() {
    for mode in MODES {
        let mut world = World::new(mode);
        let application = world.connect();
        let flow = world.take_syn();

        world.termination.refuse(flow, TcpRefusal::Reset, world.now);
        world.step();

        assert_eq!(world.socket(application).state(), State::Closed);
        assert!(world.take_events().is_empty());
        assert_eq!(world.termination.flows(), 0);
    }
}

#[test]
fn other_refusals_are_icmp_errors_that_quote_the_syn() {
    for (v6, refusal, expected) in
        [(false, TcpRefusal::Unreachable, [3, 1]), (true, TcpRefusal::Unreachable, [1, 3])]
    {
        let mut world = World::new(Mode { offload: true, v6 });
        world.connect();
        let flow = world.take_syn();

        world.termination.refuse(flow, refusal, world.now);
        world.flush();

        let (header, packet) = world.captured.first().unwrap();
        let ip = if v6 { 40 } else { 20 };
        assert_eq!(*header, VnetHeader::PLAIN);
        assert_eq!(packet[ip..ip + 2], expected);
        // The quoted packet goes from the application's port to the service's.
        let quoted = &packet[ip + 8 + ip..];
        assert_eq!(quoted[2..4], 80_u16.to_be_bytes());
        assert_eq!(quoted[..2], 40_001_u16.to_be_bytes());
    }
}

#[test]
fn after_a_half_close_the_answer_still_arrives() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        let octets = pattern(600_000);
        assert!(world.upload(application, flow, &octets) == octets);

        world.socket(application).close();
        world.step();
        assert_eq!(world.drain(flow), (vec![], TcpRecvError::Finished));
        assert!(world.download(application, flow, &octets) == octets);
        world.take_events();
        world.termination.finish(flow);
        world.step();

        assert!(!world.socket(application).may_recv());
        assert_eq!(world.take_events(), [TcpEvent::Closed { flow }]);
        assert_eq!(world.termination.flows(), 0);
    }
}

#[test]
fn the_owner_may_finish_first_and_read_on() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        world.fill(flow, b"the whole answer");
        world.termination.finish(flow);
        world.step();
        assert_eq!(world.termination.send(flow, |_| 0), Err(TcpSendError::Finished));
        assert_eq!(world.read(application), b"the whole answer");
        assert!(!world.socket(application).may_recv());

        let octets = pattern(300_000);
        assert!(world.upload(application, flow, &octets) == octets);
        world.socket(application).close();
        world.step();

        assert_eq!(world.drain(flow), (vec![], TcpRecvError::Finished));
        world.take_events();
        world.step();
        assert_eq!(world.take_events(), [TcpEvent::Closed { flow }]);
    }
}

#[test]
fn octets_that_came_before_the_end_are_read_after_it() {
    let mut world = World::new(MODES[0]);
    let (application, flow) = world.established();
    world.socket(application).send_slice(b"last words").unwrap();
    world.socket(application).close();
    world.step();
    world.termination.finish(flow);
    world.step();
    // The application's port is free although the owner has not read yet.
    world.advance(Duration::from_secs(60));

    assert_eq!(world.drain(flow), (b"last words".to_vec(), TcpRecvError::Finished));
    world.flush();

    let events = world.take_events();
    assert_eq!(events, [TcpEvent::Readable { flow }, TcpEvent::Closed { flow }]);
}

#[test]
fn a_finish_before_the_handshake_ends_is_kept_until_then() {
    let mut world = World::new(MODES[0]);
    let application = world.connect();
    let flow = world.take_syn();

    world.termination.accept(flow, world.now);
    world.termination.finish(flow);
    world.step();

    assert_eq!(world.socket(application).state(), State::CloseWait);
}

#[test]
fn an_abort_resets_the_application() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();

        world.termination.abort(flow, world.now);
        assert_eq!(world.termination.recv(flow, |_| 0), Err(TcpRecvError::Reset));
        world.step();

        assert_eq!(world.socket(application).state(), State::Closed);
        assert!(world.take_events().is_empty());
        assert_eq!(world.termination.flows(), 0);
    }
}

#[test]
fn a_reset_by_the_application_ends_the_flow_with_one_event() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();

        world.socket(application).abort();
        world.advance(Duration::from_secs(30));

        assert_eq!(world.take_events(), [TcpEvent::Reset { flow }]);
        assert_eq!(world.termination.send(flow, |_| 0), Err(TcpSendError::Reset));
        assert_eq!(world.termination.flows(), 0);
    }
}

#[test]
fn an_application_that_does_not_read_stops_the_owner_and_resumes_at_once() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        let octets = pattern(RING + APPLICATION_RING + 100_000);

        let mut sent = 0;
        loop {
            let part = world.fill(flow, &octets[sent..]);
            world.step();
            if part == 0 {
                break;
            }
            sent += part;
        }
        assert!(sent <= RING + APPLICATION_RING);
        world.advance(Duration::from_secs(3));
        world.take_events();

        let mut arrived = Vec::new();
        while arrived.len() < octets.len() {
            arrived.extend(world.read(application));
            world.advance(Duration::from_millis(5));
            sent += world.fill(flow, &octets[sent..]);
        }
        assert!(arrived == octets, "{mode:?}");
        assert!(world.take_events().contains(&TcpEvent::Writable { flow }));
    }
}

#[test]
fn an_owner_that_does_not_read_stops_the_application_and_resumes_at_once() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        let octets = pattern(RING + APPLICATION_RING);

        let mut sent = 0;
        loop {
            let part = world.socket(application).send_slice(&octets[sent..]).unwrap();
            world.advance(Duration::from_millis(5));
            if part == 0 {
                break;
            }
            sent += part;
        }
        let queued = world.termination.table.live(flow).unwrap().terminal.socket_ref().recv_queue();
        // The window counts in units of 8 octets.
        assert!(queued <= RING && queued > RING - 8);
        world.advance(Duration::from_secs(3));

        let mut arrived = Vec::new();
        while arrived.len() < sent {
            arrived.extend(world.drain(flow).0);
            world.advance(Duration::from_millis(300));
        }
        assert!(arrived == octets[..sent], "{mode:?}");
    }
}

#[test]
fn a_silent_connection_is_kept_alive_and_carries_data_afterwards() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        let octets = pattern(400_000);
        assert!(world.upload(application, flow, &octets) == octets);

        world.advance(Duration::from_secs(200));

        // The rings gave their memory back meanwhile.
        assert!(!world.termination.table.live(flow).unwrap().terminal.touched);
        assert!(world.download(application, flow, &octets) == octets);
        assert!(world.upload(application, flow, &octets) == octets);
    }
}

#[test]
fn a_used_terminal_gives_its_memory_back_though_its_next_connection_says_nothing() {
    for mode in MODES {
        let mut world = World::new(mode);
        let (application, flow) = world.established();
        let octets = pattern(400_000);
        assert!(world.upload(application, flow, &octets) == octets);
        world.socket(application).abort();
        world.advance(Duration::from_millis(5));
        assert_eq!(world.termination.flows(), 0);
        world.take_events();

        let (_, flow) = world.established();
        assert!(world.termination.table.live(flow).unwrap().terminal.touched);
        world.advance(Duration::from_secs(200));

        assert!(!world.termination.table.live(flow).unwrap().terminal.touched);
    }
}

#[test]
fn an_application_that_vanished_is_found_out() {
    let mut world = World::new(MODES[0]);
    let (application, flow) = world.established();
    world.sockets.remove(application);
    // Its host is gone too: it does not answer the keep-alives.
    let end = world.now + Duration::from_secs(400);
    while world.now < end && world.termination.flows() > 0 {
        world.now = world.termination.poll_timeout().unwrap().max(world.now);
        world.termination.handle_timeout(world.now);
        world.termination.flush(world.now, &mut |_, _| {});
    }

    assert_eq!(world.termination.poll_event(), Some(TcpEvent::Reset { flow }));
    assert!(world.now < end);
}
