//! Real sockets in a directory of the test's own.

use std::io::{Read, Write};

use super::*;
use crate::termination::{DatagramKind, Termination, TerminationConfig};
use crate::tun::vnet::VnetHeader;

const MTU: u16 = 1_280;

#[test]
fn packets_cross_the_socket_both_ways() {
    let directory = Directory::new("both-ways");
    let socket = PacketSocket::bind(&directory.socket(), MTU).unwrap();
    let mut program = UnixStream::connect(directory.socket()).unwrap();
    let mut peer = socket.accept(false).unwrap().unwrap().unwrap();

    let packet = [0x45; 28];
    program.write_all(&[&[0, 28], packet.as_slice()].concat()).unwrap();
    let mut found = Vec::new();
    assert!(peer.read(&mut |packet| found.push(packet.to_vec())).unwrap());
    assert!(!peer.read(&mut |_| panic!("nothing more was sent")).unwrap());
    assert_eq!(found, [packet]);

    assert!(peer.send(&[0x60; 40]));
    assert!(!peer.flush().unwrap());
    let mut octets = [0; 42];
    program.read_exact(&mut octets).unwrap();
    assert_eq!(octets[..2], [0, 40]);
    assert_eq!(octets[2..], [0x60; 40]);
}

#[test]
fn the_socket_is_only_for_its_owner_and_goes_with_its_listener() {
    let directory = Directory::new("mode");
    let socket = PacketSocket::bind(&directory.socket(), MTU).unwrap();

    let mode = fs::symlink_metadata(directory.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    drop(socket);
    assert!(!directory.socket().exists());
}

#[test]
fn a_second_program_is_turned_away() {
    let directory = Directory::new("second");
    let socket = PacketSocket::bind(&directory.socket(), MTU).unwrap();
    let mut second = UnixStream::connect(directory.socket()).unwrap();

    let refused = socket.accept(true).unwrap().unwrap().unwrap_err();

    assert_eq!(refused, AttachRefusal::Occupied);
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    assert!(socket.accept(false).unwrap().is_none());
}

#[test]
fn another_user_may_not_attach() {
    let directory = Directory::new("foreign");
    let path = directory.socket();
    let socket = PacketSocket::bind(&path, MTU).unwrap();
    // The mode keeps others out already; here only the second line of defence is left.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let connected = std::thread::spawn(move || {
        // SAFETY: the system call, unlike the library's function, changes this thread alone.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        (changed == 0).then(|| UnixStream::connect(path).unwrap())
    });
    let Some(_program) = connected.join().unwrap() else {
        return skip("changing the user needs root");
    };

    let refused = socket.accept(false).unwrap().unwrap().unwrap_err();

    assert_eq!(refused, AttachRefusal::ForeignUser(65_534));
}

#[test]
fn the_documents_example_is_an_echo_request() {
    let document = include_str!("../../../../../docs/packets.md");
    let example = document.split("## Example").nth(1).unwrap().split("```").nth(1).unwrap();
    let octets: Vec<u8> = example
        .lines()
        .filter_map(|line| line.get(..44))
        .flat_map(str::split_whitespace)
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    let directory = Directory::new("example");
    let socket = PacketSocket::bind(&directory.socket(), MTU).unwrap();
    let mut program = UnixStream::connect(directory.socket()).unwrap();
    let mut peer = socket.accept(false).unwrap().unwrap().unwrap();
    program.write_all(&octets).unwrap();

    let mut termination = Termination::new(
        TerminationConfig {
            offload: false,
            mtu: MTU,
            held_syns_max: 1,
            flows_max: 1,
            random_seed: 1,
        },
        epoch(),
    );
    let mut found = Vec::new();
    peer.read(&mut |packet| {
        termination.handle_packet(VnetHeader::PLAIN, packet, epoch(), &mut |datagram| {
            found.push((datagram.kind, datagram.destination.to_string(), datagram.payload.len()));
        });
    })
    .unwrap();

    let kind = DatagramKind::Echo { identifier: 1, sequence: 1 };
    assert_eq!(found, [(kind, "10.100.0.9:0".to_owned(), 0)]);
}

#[test]
fn the_kernel_names_the_user_at_the_other_end() {
    let (one, _other) = UnixStream::pair().unwrap();

    // SAFETY: the call has no preconditions and cannot fail.
    assert_eq!(peer_user(one.as_fd()).unwrap(), unsafe { libc::geteuid() });
}

#[test]
fn a_socket_left_by_a_killed_process_is_replaced_and_a_live_one_is_not() {
    let directory = Directory::new("stale");
    drop(std::os::unix::net::UnixListener::bind(directory.socket()).unwrap());
    let live = PacketSocket::bind(&directory.socket(), MTU).unwrap();

    let error = PacketSocket::bind(&directory.socket(), MTU).unwrap_err();

    assert!(error.to_string().contains("another process listens there"), "{error}");
    drop(live);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new("file");
    fs::write(directory.socket(), "precious").unwrap();

    let error = PacketSocket::bind(&directory.socket(), MTU).unwrap_err();

    assert!(error.to_string().contains("is no socket"), "{error}");
    assert_eq!(fs::read(directory.socket()).unwrap(), b"precious");
}

#[test]
fn what_is_no_packet_ends_the_connection_as_does_the_programs_end() {
    let directory = Directory::new("end");
    let socket = PacketSocket::bind(&directory.socket(), MTU).unwrap();
    let mut program = UnixStream::connect(directory.socket()).unwrap();
    let mut peer = socket.accept(false).unwrap().unwrap().unwrap();
    program.write_all(&[0, 1, 0]).unwrap();
    let error = peer.read(&mut |_| panic!("no packet")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);

    let program = UnixStream::connect(directory.socket()).unwrap();
    let mut peer = socket.accept(false).unwrap().unwrap().unwrap();
    drop(program);
    let error = peer.read(&mut |_| panic!("no packet")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_program_that_does_not_read_blocks_nothing() {
    let directory = Directory::new("slow");
    let socket = PacketSocket::bind(&directory.socket(), MTU).unwrap();
    let mut program = UnixStream::connect(directory.socket()).unwrap();
    let mut peer = socket.accept(false).unwrap().unwrap().unwrap();

    let mut sent = 0;
    while peer.send(&[0x45; 1_280]) {
        sent += 1;
        if sent % 16 == 0 {
            peer.flush().unwrap();
        }
    }
    assert!(peer.flush().unwrap(), "the socket is full");

    let mut received = 0;
    let mut frame = [0; 1_282];
    while received < sent {
        peer.flush().unwrap();
        program.read_exact(&mut frame).unwrap();
        received += 1;
    }
    assert!(!peer.flush().unwrap());
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

#[expect(clippy::disallowed_methods, reason = "any instant will do: nothing waits")]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("ztna-packets-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("packets")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
