//! Legs: handshake, admission, frames, supersession, restarts of the relay, ends.

use std::time::Duration;

use ztna_dataplane::command::Command;
use ztna_dataplane::config::{Limits, Role};
use ztna_dataplane::event::{ClosedBy, ConnectionKind, Event};
use ztna_dataplane::id::{ConnectionHandle, PairId, WireId};

use super::harness::{Node, clock};
use super::wire::Wire;
use super::world::{
    AGENT_PAIR, LegEnds, Trust, World, dial_leg, open_leg, open_leg_over, open_path, open_way,
};

#[test]
fn frames_are_read_only_after_admission_and_in_order() {
    let trust = Trust::new();
    let mut relay = trust.node(Role::Relay, Limits::default());
    let mut agent = trust.node(Role::Agent, Limits::default());
    let leg = dial_leg(&mut agent, &mut relay);
    agent.send(Command::Admit { connection: leg.client });
    for number in 0..3 {
        let frame = format!("{{\"number\":{number}}}").into_bytes();
        agent.send(Command::SendControl { connection: leg.client, frame });
    }
    let early = relay.wait_for(Duration::from_millis(100), |event| {
        matches!(event, Event::Control { .. }).then_some(())
    });
    assert_eq!(early, None);

    relay.send(Command::Admit { connection: leg.relay });

    for number in 0..3 {
        let frame = relay.wait_frame(leg.relay);
        assert_eq!(frame, format!("{{\"number\":{number}}}").into_bytes());
    }
}

#[test]
fn more_frames_than_one_turn_reads_all_arrive() {
    let (mut relay, agent, leg) = relay_and_agent();
    let count = 3_000;

    for _ in 0..count {
        let frame = vec![b'x'; 60];
        agent.send(Command::SendControl { connection: leg.client, frame });
    }

    for _ in 0..count {
        relay.wait_frame(leg.relay);
    }
}

#[test]
fn reading_goes_on_when_a_slow_owner_catches_up() {
    let (mut relay, agent, leg) = relay_and_agent();
    // More than the 8,192 events after which reading pauses.
    let count = 12_000;
    for _ in 0..count {
        agent.send(Command::SendControl { connection: leg.client, frame: b"x".to_vec() });
    }
    std::thread::sleep(Duration::from_millis(700));

    let at = clock();
    for _ in 0..count {
        relay.wait_frame(leg.relay);
    }

    assert!(clock() - at < Duration::from_secs(3));
}

#[test]
fn a_leg_that_supersedes_another_takes_its_channels() {
    let mut world = World::new();
    let way = &mut world.ways[0];
    let renewed = open_leg(&mut world.agent, &mut way.relay);

    way.relay.send(Command::MoveChannels { from: way.agent_leg.relay, to: renewed.relay });
    let old = way.agent_leg.relay;
    let reason = "superseded".to_owned();
    way.relay.send(Command::CloseConnection { connection: old, code: 9, reason });
    way.relay.wait_closed(old);
    open_path(&mut world.agent, AGENT_PAIR, renewed, way.agent_side);

    let frame = b"{}".to_vec();
    let connection = world.at_agent;
    world.agent.send(Command::SendControl { connection, frame: frame.clone() });
    assert_eq!(world.connector.wait_frame(world.at_connector), frame);
}

#[test]
fn a_relayed_path_that_is_given_to_another_pair_is_taken_from_its_first() {
    let mut world = World::new();
    let paths = |world: &mut World| {
        let connections = world.agent.sync().connections;
        connections.iter().map(|it| it.paths.len()).sum::<usize>()
    };
    assert_eq!(paths(&mut world), 1);
    let (leg, side) = (world.ways[0].agent_leg, world.ways[0].agent_side);

    open_path(&mut world.agent, PairId(9), leg, side);
    assert_eq!(paths(&mut world), 0);

    open_path(&mut world.agent, AGENT_PAIR, leg, side);
    assert_eq!(paths(&mut world), 1);
    let (connection, frame) = (world.at_agent, b"{}".to_vec());
    world.agent.send(Command::SendControl { connection, frame: frame.clone() });
    assert_eq!(world.connector.wait_frame(world.at_connector), frame);
}

#[test]
fn a_leg_that_ends_before_admission_takes_nothing_from_the_one_at_its_address() {
    let mut world = World::new();
    let way = &mut world.ways[0];
    let second = dial_leg(&mut world.agent, &mut way.relay);

    let reason = String::new();
    way.relay.send(Command::CloseConnection { connection: second.relay, code: 3, reason });
    way.relay.wait_closed(second.relay);

    let frame = b"{}".to_vec();
    let connection = world.at_agent;
    world.agent.send(Command::SendControl { connection, frame: frame.clone() });
    assert_eq!(world.connector.wait_frame(world.at_connector), frame);
    let connection = world.at_connector;
    world.connector.send(Command::SendControl { connection, frame: frame.clone() });
    assert_eq!(world.agent.wait_frame(world.at_agent), frame);
}

#[test]
fn a_relay_that_restarted_resets_the_legs_it_forgot() {
    let trust = Trust::new();
    let tls = trust.material(Role::Relay);
    let mut agent = trust.node(Role::Agent, Limits::default());
    let mut relay = trust.node(Role::Relay, Limits::default());
    let address = relay.address();
    let wire = Wire::to(address);
    let leg = open_leg_over(&mut agent, &mut relay, wire.address);
    // A crash sends no close frame.
    wire.cut();
    drop(relay);

    let mut relay = Node::open(Role::Relay, address, tls, Limits::default());
    relay.sync();
    wire.mend();
    let frame = vec![b'x'; 100];
    agent.send(Command::SendControl { connection: leg.client, frame });

    let by = agent.wait("the end of the leg", |event| match event {
        Event::Closed { connection, by, .. } if *connection == leg.client => Some(*by),
        _ => None,
    });
    assert_eq!(by, ClosedBy::StatelessReset);
}

#[test]
fn the_end_of_a_leg_is_told_without_waiting_for_its_packets_to_drain() {
    let (relay, mut agent, leg) = relay_and_agent();

    let at = clock();
    let reason = "maintenance".to_owned();
    relay.send(Command::CloseConnection { connection: leg.relay, code: 4, reason });

    assert_eq!(agent.wait_closed(leg.client), (4, "maintenance".to_owned()));
    assert!(clock() - at < Duration::from_millis(50));
}

#[test]
fn a_shutdown_tells_every_peer() {
    let (relay, mut agent, leg) = relay_and_agent();

    let grace = Duration::from_millis(100);
    relay.send(Command::Shutdown { code: 4, reason: "bye".to_owned(), grace });

    assert_eq!(agent.wait_closed(leg.client), (4, "bye".to_owned()));
}

#[test]
fn a_shutdown_ends_the_thread() {
    let (mut relay, _agent, leg) = relay_and_agent();

    let grace = Duration::from_millis(50);
    relay.send(Command::Shutdown { code: 4, reason: String::new(), grace });

    relay.wait_closed(leg.relay);
    relay.wait("the end", |event| match event {
        Event::Stopped { fatal } => fatal.is_none().then_some(()),
        _ => None,
    });
}

#[test]
fn commands_for_what_does_not_exist_change_nothing() {
    let trust = Trust::new();
    let (connection, channel) = (ConnectionHandle(999), WireId([1; 8]));
    for role in [Role::Agent, Role::Connector, Role::Relay] {
        let mut node = trust.node(role, Limits::default());
        let service = String::from("nothing");
        for command in [
            Command::Admit { connection },
            Command::CloseConnection { connection, code: 0, reason: String::new() },
            Command::PingLeg { connection },
            Command::SendControl { connection, frame: vec![1] },
            Command::MoveChannels { from: connection, to: connection },
            Command::CloseChannel { channel },
            Command::Grant { tunnel: connection, service: service.clone() },
            Command::Revoke { tunnel: connection, service: service.clone(), code: 7 },
            Command::RefuseService { service, answer: 1 },
        ] {
            node.send(command);
        }
        let snapshot = node.sync();
        assert_eq!(snapshot.connections_total, 0);
    }
}

#[test]
fn a_tunnel_of_a_pair_without_a_path_is_closed_at_once() {
    let trust = Trust::new();
    let mut agent = trust.node(Role::Agent, Limits::default());
    let connection = agent.endpoint.issue_handle();

    agent.send(Command::ConnectTunnel { connection, pair: PairId(5) });

    assert_eq!(agent.wait_closed(connection).0, 6);
}

#[test]
fn handshakes_that_were_given_up_make_room_for_others() {
    let trust = Trust::new();
    let limits = Limits { handshakes_max: 2, ..Limits::default() };
    let mut connector = trust.node(Role::Connector, limits);
    // Nobody answers at a port that is bound and not read.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback has room");
    let remote = silent.local_addr().expect("it is bound");
    for _ in 0..4 {
        let connection = connector.endpoint.issue_handle();
        connector.send(Command::ConnectLeg { connection, remote, server_name: None });
        let reason = String::new();
        connector.send(Command::CloseConnection { connection, code: 0, reason });
        connector.wait_closed(connection);
    }

    let mut agent = trust.node(Role::Agent, Limits::default());
    let _way = open_way(&trust, &mut agent, &mut connector);
    let connection = agent.endpoint.issue_handle();
    agent.send(Command::ConnectTunnel { connection, pair: AGENT_PAIR });

    connector.wait_handshake(ConnectionKind::Tunnel);
}

#[test]
fn a_leg_whose_ping_nobody_answers_is_silent() {
    let trust = Trust::new();
    let mut relay = trust.node(Role::Relay, Limits::default());
    let mut agent = trust.node(Role::Agent, Limits::default());
    let wire = Wire::to(relay.address());
    let leg = open_leg_over(&mut agent, &mut relay, wire.address);
    wire.cut();

    agent.send(Command::PingLeg { connection: leg.client });

    agent.wait("silence", |event| match event {
        Event::LegSilent { connection } => (*connection == leg.client).then_some(()),
        _ => None,
    });
}

fn relay_and_agent() -> (Node, Node, LegEnds) {
    let trust = Trust::new();
    let mut relay = trust.node(Role::Relay, Limits::default());
    let mut agent = trust.node(Role::Agent, Limits::default());
    let leg = open_leg(&mut agent, &mut relay);
    (relay, agent, leg)
}
