//! Local sockets of an agent: SOCKS5 and what ends with its client.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use ztna_dataplane::command::{LocalListener, Protocol};

use super::world::{
    SERVICE, World, accept, backend_of, connect, free_port, tcp_backend, udp_socket,
};

/// After this a tunnel that has nothing to do sends nothing until its keepalive.
const REST: Duration = Duration::from_secs(2);

#[test]
fn socks_connects_by_name() {
    let (mut world, socks) = world_with_socks();
    let (listener, backend) = tcp_backend();
    world.back(Protocol::Tcp, backend);
    let mut client = connect(socks);
    client.write_all(&[&hello()[..], &request(1, SERVICE, 80)].concat()).expect("connected");

    let mut served = accept(&listener);

    let mut reply = [0; 12];
    client.read_exact(&mut reply).expect("it is answered");
    assert_eq!(reply[..4], [5, 0, 5, 0]);
    served.write_all(b"hello").expect("it is connected");
    drop(served);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("it ends in order");
    assert_eq!(rest, b"hello");
}

#[test]
fn a_socks_client_is_served_when_nothing_else_moves_its_tunnel() {
    let (mut world, socks) = world_with_socks();
    let (listener, backend) = tcp_backend();
    world.back(Protocol::Tcp, backend);
    // Until then the tunnel's own timers would send what is in it.
    std::thread::sleep(REST);
    let mut client = connect(socks);
    client.write_all(&hello()).expect("it is connected");
    let mut method = [0; 2];
    client.read_exact(&mut method).expect("it is answered");

    client.write_all(&request(1, SERVICE, 80)).expect("it is connected");

    drop(accept(&listener));
}

#[test]
fn a_refused_socks_client_that_sent_ahead_still_reads_why() {
    let (_world, socks) = world_with_socks();
    let mut client = connect(socks);
    let ahead = [&hello()[..], &request(1, "nothing", 80), &[b'x'; 100]].concat();
    client.write_all(&ahead).expect("it is connected");

    let mut reply = Vec::new();
    client.write_all(&[b'y'; 100]).expect("it is open until the client closes");
    client.read_to_end(&mut reply).expect("it ends in order, not by a reset");

    // RFC 1928 §6: 2 is refused by the rules.
    assert_eq!(reply[..4], [5, 0, 5, 2]);
}

#[test]
fn an_association_ends_with_its_client_and_takes_its_flows_along() {
    let (mut world, socks) = world_with_socks();
    let (backend, address) = udp_socket();
    world.back(Protocol::Udp, address);
    let mut client = connect(socks);
    let associate = [&hello()[..], &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    client.write_all(&associate).expect("it is connected");
    let mut reply = [0; 12];
    client.read_exact(&mut reply).expect("it is answered");
    let port = u16::from_be_bytes([reply[10], reply[11]]);
    let (application, _) = udp_socket();
    let name = SERVICE.as_bytes();
    let target = [&[0, 0, 0, 3, name.len() as u8], name, &[0, 80, b'x']].concat();
    application.send_to(&target, ("127.0.0.1", port)).expect("loopback takes it");
    backend.recv_from(&mut [0]).expect("it arrives");

    drop(client);

    world.wait_until("its flows end", |it| it.agent.sync().flows == 0);
    world.wait_connector_flows(0);
}

fn hello() -> [u8; 3] {
    [5, 1, 0]
}

fn request(command: u8, name: &str, port: u16) -> Vec<u8> {
    let mut octets = vec![5, command, 0, 3, name.len() as u8];
    octets.extend_from_slice(name.as_bytes());
    octets.extend_from_slice(&port.to_be_bytes());
    octets
}

fn world_with_socks() -> (World, SocketAddr) {
    let mut world = World::new();
    let bind = free_port(Protocol::Tcp);
    world.listen(vec![LocalListener::Socks { bind }]);
    (world, bind)
}

impl World {
    fn back(&mut self, protocol: Protocol, backend: SocketAddr) {
        let services = vec![backend_of(protocol, backend)];
        self.connector.send(ztna_dataplane::command::Command::SetBackends { services });
        self.connector.sync();
    }
}
