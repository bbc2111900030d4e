//! Flows of every kind from an application to a backend.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use ztna_dataplane::command::{Command, Protocol};
use ztna_dataplane::config::Limits;
use ztna_dataplane::event::{Event, FlowChange};

use super::harness::clock;
use super::world::{
    SERVICE, World, accept, backend_of, connect, free_port, tcp_backend, udp_socket,
};

#[test]
fn tcp_octets_go_both_ways_and_each_direction_ends_by_itself() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let mut application = connect(port);
    let request: Vec<u8> = (0..3_000_000_u32).map(|it| (it % 251) as u8).collect();
    let sent = request.clone();

    let writer = std::thread::spawn(move || {
        application.write_all(&sent).expect("the tunnel takes it");
        application.shutdown(Shutdown::Write).expect("it is connected");
        let mut answer = Vec::new();
        application.read_to_end(&mut answer).expect("it ends in order");
        answer
    });
    let mut served = accept(&listener);
    let mut received = Vec::new();
    served.read_to_end(&mut received).expect("the FIN arrives");
    served.write_all(b"thanks").expect("that direction is open");
    drop(served);

    assert!(received == request);
    assert_eq!(writer.join().expect("no panic"), b"thanks");
    let bytes = world.connector.wait_flow(FlowChange::Closed(None));
    assert_eq!(bytes, (3_000_000, 6));
    assert_eq!(world.agent.wait_flow(FlowChange::Closed(None)), bytes);
}

#[test]
fn a_reset_of_the_application_resets_the_backend() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let application = connect(world.serve(Protocol::Tcp, backend));
    let mut served = accept(&listener);
    world.connector.wait_flow(FlowChange::Opened);
    world.agent.wait_flow(FlowChange::Opened);

    SockRef::from(&application).set_linger(Some(Duration::ZERO)).expect("it is a socket");
    drop(application);

    let error = served.read(&mut [0]).expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_the_backend_resets_the_application() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let mut application = connect(world.serve(Protocol::Tcp, backend));
    let served = accept(&listener);
    world.agent.wait_flow(FlowChange::Opened);

    SockRef::from(&served).set_linger(Some(Duration::ZERO)).expect("it is a socket");
    drop(served);

    let error = application.read(&mut [0]).expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_backend_that_refuses_resets_the_application() {
    let mut world = World::new();
    let mut application = connect(world.serve(Protocol::Tcp, free_port(Protocol::Tcp)));

    let error = application.read(&mut [0]).expect_err("it was reset");

    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    world.agent.wait_flow(FlowChange::Refused(2));
    world.connector.wait_flow(FlowChange::Refused(2));
}

#[test]
fn a_port_that_the_connector_does_not_offer_is_not_available() {
    let mut world = World::new();
    let port = world.serve(Protocol::Tcp, free_port(Protocol::Tcp));
    let other = backend_of(Protocol::Udp, free_port(Protocol::Udp));
    world.connector.send(Command::SetBackends { services: vec![other] });
    world.connector.sync();

    let _application = connect(port);

    world.agent.wait_flow(FlowChange::Refused(1));
}

#[test]
fn a_header_without_a_grant_is_held_and_then_not_available() {
    let mut world = World::with(1, Limits::default(), Limits::default());
    world.grant_at_agent();
    let (_listener, backend) = tcp_backend();
    let asked = clock();
    let _application = connect(world.serve(Protocol::Tcp, backend));

    world.agent.wait_flow(FlowChange::Refused(1));

    let waited = clock() - asked;
    assert!(waited >= Duration::from_millis(990), "{waited:?}");
}

#[test]
fn a_header_that_came_before_its_grant_is_served_when_the_grant_comes() {
    let mut world = World::with(1, Limits::default(), Limits::default());
    world.grant_at_agent();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let mut application = connect(port);
    world.wait_connector_flows(1);

    world.grant_at_connector();

    accept(&listener).write_all(b"hello").expect("it is connected");
    let mut greeting = Vec::new();
    application.read_to_end(&mut greeting).expect("it ends in order");
    assert_eq!(greeting, b"hello");
}

#[test]
fn what_an_application_says_first_travels_with_the_header() {
    let mut world = World::with(1, Limits::default(), Limits::default());
    world.grant_at_agent();
    let (listener, backend) = tcp_backend();
    let mut application = connect(world.serve(Protocol::Tcp, backend));
    application.write_all(&[7; 1_000]).expect("the agent took it");
    let received = |world: &mut World| {
        let snapshot = world.agent.sync();
        snapshot.services.iter().map(|it| it.bytes_up).sum::<u64>()
    };
    world.wait_until("the early octets leave", |world| received(world) == 1_000);

    world.grant_at_connector();

    let mut octets = [0; 1_000];
    accept(&listener).read_exact(&mut octets).expect("they arrive");
    assert_eq!(octets, [7; 1_000]);
}

#[test]
fn datagrams_go_both_ways_in_pieces_where_they_do_not_fit() {
    let mut world = World::new();
    let (backend, address) = udp_socket();
    let port = world.serve(Protocol::Udp, address);
    let (application, _) = udp_socket();
    let mut buffer = [0; 10_000];

    for size in [1, 1_000, 1_300, 9_000] {
        let octets = vec![size as u8; size];
        application.send_to(&octets, port).expect("loopback takes it");
        let (length, from) = backend.recv_from(&mut buffer).expect("it arrives");
        assert!(buffer[..length] == octets);
        backend.send_to(&octets, from).expect("loopback takes it");
        let (length, _) = application.recv_from(&mut buffer).expect("it comes back");
        assert!(buffer[..length] == octets);
    }
}

#[test]
fn a_ping_is_answered_by_the_connector() {
    let mut world = World::new();
    world.serve(Protocol::Udp, free_port(Protocol::Udp));

    world.ping(2);

    for number in 0..2 {
        world.agent.wait("an answer", |event| match event {
            Event::PingReply { request: 9, sequence, rtt_us: Some(_), .. } => {
                (*sequence == number).then_some(())
            }
            _ => None,
        });
    }
}

#[test]
fn a_ping_of_a_service_that_is_not_healthy_is_refused() {
    let mut world = World::new();
    world.serve(Protocol::Udp, free_port(Protocol::Udp));
    let mut ill = backend_of(Protocol::Udp, free_port(Protocol::Udp));
    ill.healthy = false;
    world.connector.send(Command::SetBackends { services: vec![ill] });
    world.connector.sync();

    world.ping(1);

    world.agent.wait("a refusal", |event| {
        matches!(event, Event::PingReply { refused: Some(3), .. }).then_some(())
    });
}

#[test]
fn revoking_a_service_cuts_its_flows_at_once() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let mut application = connect(world.serve(Protocol::Tcp, backend));
    let mut served = accept(&listener);
    world.agent.wait_flow(FlowChange::Opened);

    let at = clock();
    world.revoke_at_connector();

    assert!(application.read(&mut [0]).is_err());
    assert!(served.read(&mut [0]).is_err());
    assert!(clock() - at < Duration::from_millis(100));
    world.connector.wait_flow(FlowChange::Closed(Some(7)));
}

#[test]
fn closing_a_tunnel_cuts_its_flows_at_once_and_reports_them() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let mut application = connect(world.serve(Protocol::Tcp, backend));
    let mut served = accept(&listener);
    world.agent.wait_flow(FlowChange::Opened);

    let at = clock();
    let (connection, reason) = (world.at_connector, "over".to_owned());
    world.connector.send(Command::CloseConnection { connection, code: 5, reason });

    assert!(served.read(&mut [0]).is_err());
    assert!(application.read(&mut [0]).is_err());
    assert!(clock() - at < Duration::from_millis(100));
    assert_eq!(world.agent.wait_closed(world.at_agent), (5, "over".to_owned()));
    world.connector.wait_flow(FlowChange::Closed(Some(10)));
    world.agent.wait_flow(FlowChange::Closed(Some(10)));
}

#[test]
fn a_flow_that_nobody_reads_blocks_neither_others_nor_control_frames() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let mut stuck = connect(port);
    let _unread = accept(&listener);
    stuck.set_nonblocking(true).expect("it is a socket");
    let deadline = clock() + Duration::from_millis(500);
    while clock() < deadline {
        if stuck.write(&[0; 65_536]).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    let mut application = connect(port);
    let mut served = accept(&listener);
    application.write_all(b"x").expect("it is connected");
    served.read_exact(&mut [0]).expect("it arrives");
    let frame = br#"{"type":"open"}"#.to_vec();
    let connection = world.at_agent;
    world.agent.send(Command::SendControl { connection, frame: frame.clone() });

    assert_eq!(world.connector.wait_frame(world.at_connector), frame);
}

#[test]
fn a_service_that_nobody_serves_is_wanted_and_its_flow_waits_for_the_grant() {
    let mut world = World::with(1, Limits::default(), Limits::default());
    let (listener, backend) = tcp_backend();
    let port: SocketAddr = world.serve(Protocol::Tcp, backend);
    let _application = connect(port);
    world.agent.wait("a want", |event| match event {
        Event::Wanted { service } => (service == SERVICE).then_some(()),
        _ => None,
    });

    world.grant();

    accept(&listener);
}
