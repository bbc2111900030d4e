//! Two relayed paths of one tunnel: silence, take-over, replay, return.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use ztna_dataplane::command::{Command, Protocol};
use ztna_dataplane::config::{Limits, PathPolicy, PathPreference};
use ztna_dataplane::event::{Event, PathChange, PathName};

use super::harness::clock;
use super::world::{World, accept, connect, tcp_backend, udp_socket};

#[test]
fn when_a_path_falls_silent_the_other_takes_over_and_nothing_is_lost() {
    let mut world = two_paths();
    let (listener, backend) = tcp_backend();
    let mut application = connect(world.serve(Protocol::Tcp, backend));
    let mut served = accept(&listener);
    let writer = std::thread::spawn(move || {
        for number in 0..2_000_u32 {
            application.write_all(&number.to_be_bytes()).expect("the tunnel takes it");
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    let mut octets = [0; 4];
    for number in 0..400_u32 {
        served.read_exact(&mut octets).expect("it arrives");
        assert_eq!(octets, number.to_be_bytes());
    }
    let index = world.selected_way();

    world.ways[index].close_channel();

    let mut longest = Duration::ZERO;
    for number in 400..2_000_u32 {
        let at = clock();
        served.read_exact(&mut octets).expect("it arrives");
        longest = longest.max(clock() - at);
        assert_eq!(octets, number.to_be_bytes());
    }
    writer.join().expect("no panic");
    assert!(longest < Duration::from_millis(700), "{longest:?}");
    assert_ne!(world.selected_way(), index);
}

#[test]
fn no_datagram_is_missed_when_a_path_falls_silent() {
    let mut world = two_paths();
    let (backend, address) = udp_socket();
    let port = world.serve(Protocol::Udp, address);
    let (application, _) = udp_socket();
    let index = world.selected_way();
    // Read all the time: the system drops what does not fit its buffer.
    let reader = std::thread::spawn(move || {
        backend.set_read_timeout(Some(Duration::from_secs(1))).expect("it is not zero");
        let (mut octets, mut received) = ([0; 4], Vec::new());
        while received.len() < 600 && backend.recv_from(&mut octets).is_ok() {
            received.push(u32::from_be_bytes(octets));
        }
        received
    });

    for number in 0..600_u32 {
        application.send_to(&number.to_be_bytes(), port).expect("loopback takes it");
        if number == 100 {
            world.ways[index].close_channel();
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    let received = reader.join().expect("no panic");
    let missing: Vec<u32> = (0..600).filter(|it| !received.contains(it)).collect();
    assert_eq!(missing, []);
    assert_eq!(received.len(), 600);
}

#[test]
fn a_path_that_was_left_is_back_in_use_when_it_answers_and_the_other_falls_silent() {
    let mut world = two_paths();
    let (backend, address) = udp_socket();
    let port = world.serve(Protocol::Udp, address);
    let (application, _) = udp_socket();
    let mut pulse = || {
        application.send_to(b"x", port).expect("loopback takes it");
        std::thread::sleep(Duration::from_millis(2));
    };
    let first = world.selected_way();
    let other = 1 - first;
    world.ways[first].close_channel();
    pulse_until(&mut world, &mut pulse, |it| it.selected_way() == other);
    world.ways[first].open_channel();
    let back = world.relay_address(first);
    pulse_until(&mut world, &mut pulse, |it| {
        it.agent
            .wait_for(Duration::ZERO, |event| match event {
                Event::Path { path, change: PathChange::Recovered, .. } => {
                    (*path == PathName::Relayed(back)).then_some(())
                }
                _ => None,
            })
            .is_some()
    });

    world.ways[other].close_channel();

    pulse_until(&mut world, &mut pulse, |it| it.selected_way() == first);
    backend.recv_from(&mut [0]).expect("it arrives");
}

#[test]
fn with_a_policy_that_requires_a_direct_path_no_flow_takes_a_relayed_one() {
    let mut world = World::new();
    let (listener, backend) = tcp_backend();
    let port = world.serve(Protocol::Tcp, backend);
    let policy = |preference| PathPolicy { preference, ..PathPolicy::default() };
    let tunnel = world.at_agent;
    let direct = policy(PathPreference::RequireDirect);
    world.agent.send(Command::SetPathPolicy { tunnel, policy: direct });
    world.agent.sync();
    let mut application = connect(port);
    application.write_all(b"x").expect("the agent takes it");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(world.connector.sync().flows, 0);

    let any = policy(PathPreference::PreferDirect);
    world.agent.send(Command::SetPathPolicy { tunnel, policy: any });

    accept(&listener).read_exact(&mut [0]).expect("it arrives");
}

fn two_paths() -> World {
    let mut world = World::with(2, Limits::default(), Limits::default());
    world.grant();
    world.exchange_credentials();
    for _ in 0..2 {
        world.agent.wait("a proof", proof);
        world.connector.wait("a proof", proof);
    }
    world
}

fn proof(event: &Event) -> Option<()> {
    matches!(event, Event::Path { change: PathChange::Proven, .. }).then_some(())
}

fn pulse_until(
    world: &mut World,
    pulse: &mut impl FnMut(),
    mut is_so: impl FnMut(&mut World) -> bool,
) {
    world.wait_until("the path changes", |world| {
        pulse();
        is_so(world)
    });
}

impl World {
    fn relay_address(&self, index: usize) -> SocketAddr {
        self.ways[index].relay.address()
    }

    /// Returns over which relay the agent sends.
    fn selected_way(&mut self) -> usize {
        let snapshot = self.agent.sync();
        let paths = snapshot.connections.into_iter().flat_map(|it| it.paths);
        let selected = paths.into_iter().find(|path| path.selected).expect("there is a path").name;
        let relayed = |index| PathName::Relayed(self.relay_address(index));
        (0..self.ways.len()).find(|index| relayed(*index) == selected).expect("it is a relay's")
    }
}
