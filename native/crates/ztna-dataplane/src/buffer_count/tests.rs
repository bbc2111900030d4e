use super::*;
use crate::test_support::seeded;
use boring::asn1::Asn1Time;
use boring::bn::BigNum;
use boring::ec::{EcGroup, EcKey};
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::PKey;
use boring::ssl::{SslContextBuilder, SslMethod};
use boring::x509::{X509Builder, X509NameBuilder};
use quiche::{Config, Connection, ConnectionId, RecvInfo, Shutdown};
use std::net::SocketAddr;

#[test]
fn a_block_counts_from_its_allocation_to_its_end() {
    let meter = Meter::new();
    let guard = MeterGuard::enter(&meter);
    let block = vec![0_u8; 1_000];
    drop(guard);
    assert_eq!((meter.bytes(), meter.buffers()), (1_000, 1));

    drop(block);

    assert_eq!((meter.bytes(), meter.buffers()), (0, 0));
}

#[test]
fn blocks_from_outside_a_guard_never_count() {
    let meter = Meter::new();
    let mut outside = vec![0_u8; 1_000];

    let guard = MeterGuard::enter(&meter);
    outside.resize(5_000, 0);
    assert_eq!((meter.bytes(), meter.buffers()), (0, 0));
    drop(outside);
    drop(guard);

    assert_eq!((meter.bytes(), meter.buffers()), (0, 0));
}

#[test]
fn a_block_that_grows_or_shrinks_keeps_its_owner() {
    let meter = Meter::new();
    let guard = MeterGuard::enter(&meter);
    let mut block = Vec::<u8>::with_capacity(10);
    drop(guard);

    block.reserve_exact(100_000);
    assert_eq!((meter.bytes(), meter.buffers()), (100_000, 1));
    block.push(1);
    block.shrink_to_fit();
    assert_eq!((meter.bytes(), meter.buffers()), (1, 1));

    drop(block);
    assert_eq!(meter.bytes(), 0);
}

#[test]
fn the_inner_guard_counts_and_the_outer_one_goes_on() {
    let (outer, inner) = (Meter::new(), Meter::new());
    let outer_guard = MeterGuard::enter(&outer);
    let inner_guard = MeterGuard::enter(&inner);
    let first = Box::new([0_u8; 10]);
    drop(inner_guard);
    let second = Box::new([0_u8; 20]);
    drop(outer_guard);
    let third = Box::new([0_u8; 30]);

    assert_eq!((inner.bytes(), outer.bytes()), (10, 20));
    drop((first, second, third));
}

#[test]
fn a_block_may_be_freed_by_another_thread() {
    let meter = Meter::new();
    let guard = MeterGuard::enter(&meter);
    let block = vec![0_u8; 500];
    drop(guard);

    std::thread::scope(|scope| scope.spawn(move || drop(block)).join().unwrap());

    assert_eq!((meter.bytes(), meter.buffers()), (0, 0));
}

#[test]
fn counters_with_blocks_left_are_not_given_to_the_next_meter() {
    let meter = Meter::new();
    let guard = MeterGuard::enter(&meter);
    let block = vec![0_u8; 500];
    drop(guard);
    drop(meter);

    let others: Vec<_> = (0..20).map(|_| Meter::new()).collect();

    assert!(others.iter().all(|meter| meter.bytes() == 0));
    assert!(Meter::process_bytes() >= 500);
    drop(block);
}

#[test]
fn counters_are_used_again() {
    let address = |meter: &Meter| ptr::from_ref(meter.counters);
    // Other tests take and give back counters at the same time: some of many are enough.
    let first: Vec<_> = (0..50).map(|_| Meter::new()).collect();
    let addresses: Vec<_> = first.iter().map(address).collect();
    drop(first);

    let second: Vec<_> = (0..50).map(|_| Meter::new()).collect();

    assert!(second.iter().any(|meter| addresses.contains(&address(meter))));
}

#[test]
fn every_size_and_alignment_is_served_as_asked() {
    seeded(20_000, |random| {
        let align = 1 << random.usize(0..13);
        let layout = Layout::from_size_align(random.usize(1..5_000), align).unwrap();
        let larger = random.usize(1..10_000);
        let meter = Meter::new();
        let guard = MeterGuard::enter(&meter);

        // SAFETY: the layout is not empty.
        let block = unsafe { ALLOCATOR.alloc_zeroed(layout) };
        assert!(!block.is_null() && block.addr() % align == 0);
        assert_eq!((meter.bytes(), meter.buffers()), (layout.size(), 1));
        // SAFETY: the block has that many octets, all of them zero.
        let octets = unsafe { std::slice::from_raw_parts_mut(block, layout.size()) };
        assert!(octets.iter().all(|octet| *octet == 0));
        octets.fill(0xab);

        // SAFETY: the block is of this allocator and layout; the size is not zero.
        let block = unsafe { ALLOCATOR.realloc(block, layout, larger) };
        assert!(!block.is_null() && block.addr() % align == 0);
        assert_eq!((meter.bytes(), meter.buffers()), (larger, 1));
        // SAFETY: so many octets were written before and moved with the block.
        let octets = unsafe { std::slice::from_raw_parts(block, layout.size().min(larger)) };
        assert!(octets.iter().all(|octet| *octet == 0xab));

        // SAFETY: the block is of this allocator, and of this layout since it was resized.
        unsafe { ALLOCATOR.dealloc(block, Layout::from_size_align(larger, align).unwrap()) };
        assert_eq!((meter.bytes(), meter.buffers()), (0, 0));
        drop(guard);
    });
}

#[test]
fn an_allocation_larger_than_the_address_space_fails_and_counts_nothing() {
    let layout = Layout::from_size_align(isize::MAX as usize - 4, 1).unwrap();
    // SAFETY: the layout is not empty.
    assert!(unsafe { ALLOCATOR.alloc(layout) }.is_null());

    let meter = Meter::new();
    let guard = MeterGuard::enter(&meter);
    let mut block = Vec::<u8>::with_capacity(8);
    assert!(block.try_reserve_exact(isize::MAX as usize - 16).is_err());
    drop(guard);
    assert_eq!((meter.bytes(), meter.buffers()), (8, 1));
}

#[test]
fn octets_behind_a_gap_are_counted_until_the_peer_resets_the_stream() {
    let mut pair = Pair::new();
    let before = pair.held();

    pair.send_behind_a_gap(2_000);
    let (bytes, buffers) = pair.held();
    // Data, its reference counts and its place in the tree: far more than the 2,000 octets.
    assert!(buffers - before.1 > 2_000, "{} blocks", buffers - before.1);
    assert!(bytes - before.0 > 100_000, "{} octets", bytes - before.0);

    pair.client.stream_shutdown(0, Shutdown::Write, 5).unwrap();
    pair.exchange();

    let after = pair.held();
    assert!(after.1 < before.1 + 100, "{} blocks, {} before", after.1, before.1);
    assert!(after.0 < before.0 + 32_768, "{} octets, {} before", after.0, before.0);
}

#[test]
fn octets_behind_a_gap_are_counted_until_we_stop_the_stream() {
    let mut pair = Pair::new();
    let before = pair.held();
    pair.send_behind_a_gap(2_000);
    assert!(pair.held().1 - before.1 > 2_000);

    pair.server.stream_shutdown(0, Shutdown::Read, 5).unwrap();

    assert!(pair.held().1 < before.1 + 100);
}

#[test]
fn octets_that_nobody_reads_are_counted_until_they_are_read() {
    let mut pair = Pair::new();
    let before = pair.held();
    pair.client.stream_send(0, &[7; 200_000], false).unwrap();
    pair.exchange();
    let held = pair.held().0 - before.0;
    let readable = pair.server.stream_readable_len(0, usize::MAX);
    assert!(readable > 10_000 && held >= readable, "{held} octets held for {readable}");

    let mut buffer = vec![0; 1 << 20];
    assert!(pair.server.stream_recv(0, &mut buffer).is_ok());

    assert!(pair.held().0 < before.0 + 16_384);
}

#[test]
fn a_connection_that_is_gone_leaves_nothing() {
    // What is made once a process must not be this tunnel's.
    drop(Pair::new());
    let mut pair = Pair::new();
    pair.send_behind_a_gap(500);
    pair.client.dgram_send(&[1; 300]).unwrap();
    pair.exchange();
    assert!(pair.held().1 > 500);

    let Pair { server, meter, .. } = pair;
    drop(server);

    assert_eq!((meter.bytes(), meter.buffers()), (0, 0));
}

/// Two ends of a connection in one process; the server's memory is metered.
struct Pair {
    client: Connection,
    server: Connection,
    meter: Meter,
}

impl Pair {
    fn new() -> Self {
        let (from, to) = addresses();
        let mut config = config(None);
        let scid = ConnectionId::from_ref(&[1; 8]);
        let client = quiche::connect(None, &scid, from, to, &mut config).unwrap();
        let mut config = config_of_server();
        let scid = ConnectionId::from_ref(&[2; 8]);
        let server = quiche::accept(&scid, None, to, from, &mut config).unwrap();
        let mut pair = Self { client, server, meter: Meter::new() };
        pair.exchange();
        pair.exchange();
        assert!(pair.client.is_established() && pair.server.is_established());
        pair.client.stream_send(0, b"first", false).unwrap();
        pair.exchange();
        pair
    }

    fn held(&self) -> (usize, usize) {
        (self.meter.bytes(), self.meter.buffers())
    }

    /// Sends frames of one octet of which the first is lost.
    fn send_behind_a_gap(&mut self, frames: usize) {
        let mut packet = [0; 1_500];
        self.client.stream_send(0, b"x", false).unwrap();
        self.client.send(&mut packet).unwrap();
        for frame in 0..frames {
            self.client.stream_send(0, b"x", false).unwrap();
            match self.client.send(&mut packet) {
                Ok((length, _)) => self.give_to_server(&mut packet[..length]),
                // The window is full: the server's acknowledgements open it.
                Err(quiche::Error::Done) => self.acknowledge(),
                Err(error) => panic!("{error}"),
            }
            if frame.is_multiple_of(16) {
                self.acknowledge();
            }
        }
    }

    fn acknowledge(&mut self) {
        let (from, to) = addresses();
        let mut packet = [0; 1_500];
        while let Ok((length, _)) = self.server.send(&mut packet) {
            let info = RecvInfo { from: to, to: from };
            self.client.recv(&mut packet[..length], info).unwrap();
        }
    }

    fn exchange(&mut self) {
        let mut packet = [0; 1_500];
        for _ in 0..10 {
            while let Ok((length, _)) = self.client.send(&mut packet) {
                self.give_to_server(&mut packet[..length]);
            }
            self.acknowledge();
        }
    }

    fn give_to_server(&mut self, packet: &mut [u8]) {
        let (from, to) = addresses();
        let _guard = MeterGuard::enter(&self.meter);
        self.server.recv(packet, RecvInfo { from, to }).unwrap();
    }
}

fn addresses() -> (SocketAddr, SocketAddr) {
    ("198.51.100.1:1".parse().unwrap(), "198.51.100.2:2".parse().unwrap())
}

fn config_of_server() -> Config {
    let key = PKey::from_ec_key(
        EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap(),
    )
    .unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "connector.example").unwrap();
    let name = name.build();
    let mut certificate = X509Builder::new().unwrap();
    certificate.set_version(2).unwrap();
    certificate
        .set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap())
        .unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();

    let mut tls = SslContextBuilder::new(SslMethod::tls()).unwrap();
    tls.set_certificate(&certificate.build()).unwrap();
    tls.set_private_key(&key).unwrap();
    config(Some(tls))
}

fn config(tls: Option<SslContextBuilder>) -> Config {
    let tls = tls.unwrap_or_else(|| SslContextBuilder::new(SslMethod::tls()).unwrap());
    let mut config = Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls).unwrap();
    config.set_application_protos(&[b"ztna-tunnel-v2"]).unwrap();
    config.set_initial_max_data(16 << 20);
    config.set_initial_max_stream_data_bidi_local(4 << 20);
    config.set_initial_max_stream_data_bidi_remote(4 << 20);
    config.set_initial_max_streams_bidi(8);
    config.enable_dgram(true, 8, 8);
    config
}
