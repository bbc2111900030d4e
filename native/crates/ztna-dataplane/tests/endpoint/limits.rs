//! Everything a peer can grow, at its limit and one past it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ztna_dataplane::command::{Command, Protocol};
use ztna_dataplane::config::{Limits, Role};
use ztna_dataplane::event::{ConnectionKind, Event, FlowChange};

use super::world::{
    AGENT_PAIR, SERVICE, Trust, World, accept, connect, free_port, open_way, tcp_backend,
    udp_socket,
};

#[test]
fn a_tunnel_has_so_many_flows_and_the_next_is_refused_with_5() {
    let limits = Limits { flows_per_tunnel_max: 3, ..Limits::default() };
    let mut world = World::with(1, Limits::default(), limits);
    world.grant();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let applications: Vec<TcpStream> = (0..3).map(|_| connect(port)).collect();
    let _served: Vec<TcpStream> = applications.iter().map(|_| accept(&listener)).collect();

    let mut one_more = connect(port);

    assert!(one_more.read(&mut [0]).is_err());
    world.agent.wait_flow(FlowChange::Refused(5));
    assert_eq!(world.connector.sync().flows, 3);
}

#[test]
fn at_the_agent_the_longest_idle_datagram_flow_makes_room() {
    let limits = Limits { datagram_flows_per_tunnel_max: 2, ..Limits::default() };
    eviction(limits, Limits::default());
}

#[test]
fn at_the_connector_the_longest_idle_datagram_flow_makes_room() {
    let limits = Limits { datagram_flows_per_tunnel_max: 2, ..Limits::default() };
    eviction(Limits::default(), limits);
}

fn eviction(agent: Limits, connector: Limits) {
    let mut world = World::with(1, agent, connector);
    world.grant();
    let (backend, address) = udp_socket();
    let port = world.serve(Protocol::Udp, address);
    let clients: Vec<_> = (0..3).map(|_| udp_socket().0).collect();
    let mut octet = [0];
    let mut sources = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        client.send_to(&[number as u8], port).expect("loopback takes it");
        sources.push(backend.recv_from(&mut octet).expect("it arrives").1);
        assert_eq!(usize::from(octet[0]), number);
    }
    world.wait_connector_flows(2);
    world.wait_until("the agent has two", |it| it.agent.sync().flows == 2);

    // The first was the longest idle: the others go on, and it comes back as another flow.
    clients[2].send_to(&[7], port).expect("loopback takes it");
    assert_eq!(backend.recv_from(&mut octet).expect("it arrives").1, sources[2]);
    clients[0].send_to(&[8], port).expect("loopback takes it");
    assert_ne!(backend.recv_from(&mut octet).expect("it arrives").1, sources[0]);
    world.wait_connector_flows(2);
}

#[test]
fn a_tunnel_holds_256_headers_without_a_grant() {
    let mut world = World::with(1, Limits::default(), Limits::default());
    world.grant_at_agent();
    let (_listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let _held: Vec<TcpStream> = (0..256).map(|_| connect(port)).collect();
    world.wait_connector_flows(256);
    let refused = world.agent.wait_for(Duration::ZERO, |event| match event {
        Event::Flow(report) => Some(report.change),
        _ => None,
    });
    assert_eq!(refused, None);

    let _one_more = connect(port);

    world.agent.wait_flow(FlowChange::Refused(1));
}

#[test]
fn a_channel_has_two_handshakes_under_way() {
    let mut world = World::new();

    for _ in 0..3 {
        let connection = world.agent.endpoint.issue_handle();
        world.agent.send(Command::ConnectTunnel { connection, pair: AGENT_PAIR });
    }

    world.connector.wait_counter("handshakes_limited", 1);
    // The third is taken when there is room again.
    for _ in 0..3 {
        world.connector.wait_handshake(ConnectionKind::Tunnel);
    }
}

#[test]
fn past_a_tunnels_budget_the_flow_that_nobody_reads_longest_is_reset_with_5() {
    pressure(Limits { tunnel_buffer_bytes_max: 400 << 10, ..Limits::default() });
}

#[test]
fn past_the_process_budget_a_tunnel_that_holds_much_loses_flows_that_nobody_reads() {
    // Whatever the other tests of this process hold: it is too much.
    pressure(Limits { process_buffer_bytes_max: 1, ..Limits::default() });
}

#[test]
fn past_the_process_budget_a_tunnel_that_holds_little_is_served() {
    let limits = Limits { process_buffer_bytes_max: 1, ..Limits::default() };
    let mut world = World::with(1, Limits::default(), limits);
    world.grant();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);

    for _ in 0..3 {
        connect(port).write_all(b"x").expect("this flow lives");
        accept(&listener).read_exact(&mut [0]).expect("and is served");
    }

    assert_eq!(world.connector.counter("flows_refused_limit"), 0);
    assert_eq!(world.connector.counter("flows_reset_pressure"), 0);
}

/// Eight applications write to backends that read nothing; a ninth is served all the time.
fn pressure(connector: Limits) {
    let mut world = World::with(1, Limits::default(), connector);
    world.grant();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let mut read = connect(port);
    let mut reader = accept(&listener);
    let stuck: Vec<_> = (0..8).map(|_| (connect(port), accept(&listener))).collect();
    let writers: Vec<_> = stuck
        .iter()
        .map(|(application, _)| {
            let mut application = application.try_clone().expect("descriptors are left");
            std::thread::spawn(move || while application.write(&[0; 65_536]).is_ok() {})
        })
        .collect();

    world.agent.wait_flow(FlowChange::Closed(Some(5)));

    world.connector.wait_counter("flows_reset_pressure", 1);
    read.write_all(b"x").expect("this flow lives");
    reader.read_exact(&mut [0]).expect("and is served");
    drop(stuck);
    drop(world);
    for writer in writers {
        writer.join().expect("no panic");
    }
}

#[test]
fn a_tunnel_with_four_times_its_buffers_is_closed() {
    // A handshake alone takes more than four.
    let limits = Limits { tunnel_buffers_max: 1, ..Limits::default() };
    let trust = Trust::new();
    let mut agent = trust.node(Role::Agent, Limits::default());
    let mut connector = trust.node(Role::Connector, limits);
    let _way = open_way(&trust, &mut agent, &mut connector);

    let connection = agent.endpoint.issue_handle();
    agent.send(Command::ConnectTunnel { connection, pair: AGENT_PAIR });

    let code = connector.wait("the end of the tunnel", |event| match event {
        Event::Closed { kind: ConnectionKind::Tunnel, code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(code, 6);
}

#[test]
fn flows_that_waited_in_vain_leave_their_places_to_others() {
    let mut world = World::with(1, Limits::default(), Limits::default());
    let port = world.serve(Protocol::Tcp, free_port(Protocol::Tcp));
    // As many as may wait for one service, none of which stays.
    for _ in 0..11 {
        let gone: Vec<TcpStream> = (0..100).map(|_| connect(port)).collect();
        world.wait_until("they wait", |it| it.agent.sync().flows == 100);
        let service = SERVICE.to_owned();
        drop(gone);
        world.agent.send(Command::RefuseService { service, answer: 1 });
        world.wait_until("they are gone", |it| it.agent.sync().flows == 0);
    }

    assert_eq!(world.agent.counter("flows_refused_limit"), 0);
}
