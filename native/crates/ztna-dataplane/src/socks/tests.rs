use super::fuzz::{check_one_socks_datagram, check_one_socks_handshake};
use super::*;
use crate::test_support::{hex, seeded};

#[test]
fn a_connect_by_name_is_read_and_answered() {
    let mut out = Vec::new();

    let request = handshake("05 01 00  05 01 00 03 04 6563686f 0050", &mut out);

    assert_eq!(request, Ok(Some(SocksRequest::Connect(name("echo", 80)))));
    assert_eq!(out, hex("05 00"));

    out.clear();
    write_reply(FlowAnswer::Connected.into(), UNSPECIFIED, &mut out);
    assert_eq!(out, hex("05 00 00 01 00000000 0000"));
}

#[test]
fn addresses_of_both_families_are_read() {
    let ipv4 = handshake("05 01 00  05 01 00 01 0a640001 0016", &mut Vec::new());
    assert_eq!(ipv4, Ok(Some(SocksRequest::Connect(address("10.100.0.1", 22)))));

    let ipv6 =
        handshake("05 01 00  05 01 00 04 20010db8000000000000000000000001 01bb", &mut Vec::new());
    assert_eq!(ipv6, Ok(Some(SocksRequest::Connect(address("2001:db8::1", 443)))));
}

#[test]
fn an_association_may_leave_its_port_open() {
    let request = handshake("05 01 00  05 03 00 01 00000000 0000", &mut Vec::new());

    assert_eq!(request, Ok(Some(SocksRequest::UdpAssociate(address("0.0.0.0", 0)))));
}

#[test]
fn no_authentication_is_found_among_other_methods() {
    let mut out = Vec::new();

    assert_eq!(handshake("05 03 02 01 00", &mut out), Ok(None));

    assert_eq!(out, hex("05 00"));
}

#[test]
fn a_handshake_may_arrive_octet_by_octet_and_leaves_the_data_behind_it() {
    let mut wire = hex("05 02 00 02  05 01 00 03 04 6563686f 0050");
    wire.extend_from_slice(b"early data");
    for size in 1..=wire.len() {
        let mut handshake = SocksHandshake::new();
        let mut found = None;
        let mut data = Vec::new();
        for mut part in wire.chunks(size) {
            if found.is_none() {
                found = handshake.read(&mut part, &mut Vec::new()).unwrap();
            }
            data.extend_from_slice(part);
        }

        assert_eq!(found, Some(SocksRequest::Connect(name("echo", 80))), "in parts of {size}");
        assert_eq!(data, b"early data");
    }
}

#[test]
fn what_cannot_be_served_is_told_in_the_code_of_the_standard() {
    let rows = [
        ("another version", "04 01", "", SocksError::WrongVersion),
        ("HTTP", "47 45 54", "", SocksError::WrongVersion),
        ("authentication only", "05 01 02", "05 ff", SocksError::NoAcceptableMethod),
        ("no method at all", "05 00", "05 ff", SocksError::NoAcceptableMethod),
        (
            "BIND",
            "05 01 00  05 02 00 01 0a000001 0050",
            "05 00  05 07 00 01 00000000 0000",
            SocksError::CommandNotSupported,
        ),
        (
            "another type of address",
            "05 01 00  05 01 00 02",
            "05 00  05 08 00 01 00000000 0000",
            SocksError::AddressTypeNotSupported,
        ),
        (
            "an empty name",
            "05 01 00  05 01 00 03 00",
            "05 00  05 01 00 01 00000000 0000",
            SocksError::InvalidTarget,
        ),
        (
            "a name with a line end",
            "05 01 00  05 01 00 03 02 610a 0050",
            "05 00  05 01 00 01 00000000 0000",
            SocksError::InvalidTarget,
        ),
        (
            "CONNECT to port 0",
            "05 01 00  05 01 00 01 0a000001 0000",
            "05 00  05 01 00 01 00000000 0000",
            SocksError::InvalidTarget,
        ),
        (
            "a request of another version",
            "05 01 00  04 01 00 01",
            "05 00",
            SocksError::WrongVersion,
        ),
    ];
    for (name, wire, answer, error) in rows {
        let mut out = Vec::new();

        assert_eq!(handshake(wire, &mut out), Err(error), "{name}");
        assert_eq!(out, hex(answer), "{name}");
    }
}

#[test]
fn a_name_of_255_octets_and_255_methods_are_held_and_no_more() {
    let mut wire = vec![5, 255];
    wire.resize(257, 0);
    wire.extend_from_slice(&[5, 1, 0, 3, 255]);
    wire.resize(wire.len() + 255, b'a');
    wire.extend_from_slice(&[0, 80]);
    let mut handshake = SocksHandshake::new();

    let request = handshake.read(&mut wire.as_slice(), &mut Vec::new()).unwrap();

    assert_eq!(request, Some(SocksRequest::Connect(name(&"a".repeat(255), 80))));
    assert_eq!(handshake.held.len(), REQUEST_BYTES_MAX);
}

#[test]
fn every_flow_answer_has_a_reply() {
    for (answer, reply) in [(0, 0), (1, 2), (2, 5), (3, 4), (4, 6), (5, 1), (8, 7)] {
        let answer = FlowAnswer::from_octet(answer).unwrap();
        assert_eq!(SocksReply::from(answer) as u8, reply, "{answer:?}");
    }
}

#[test]
fn a_reply_tells_the_address_of_the_association() {
    let mut out = Vec::new();
    write_reply(SocksReply::Succeeded, "127.0.0.1:1080".parse().unwrap(), &mut out);
    assert_eq!(out, hex("05 00 00 01 7f000001 0438"));

    out.clear();
    write_reply(SocksReply::Succeeded, "[::1]:1080".parse().unwrap(), &mut out);
    assert_eq!(out, hex("05 00 00 04 00000000000000000000000000000001 0438"));
}

#[test]
fn datagrams_are_read_and_written_by_name_and_address() {
    for (target, wire) in [
        (name("dns", 53), "0000 00 03 03 646e73 0035 cafe"),
        (address("10.100.0.1", 53), "0000 00 01 0a640001 0035 cafe"),
        (address("2001:db8::1", 53), "0000 00 04 20010db8000000000000000000000001 0035 cafe"),
    ] {
        let wire = hex(wire);
        assert_eq!(read_datagram(&wire), Ok((target.clone(), &hex("cafe")[..])));

        let mut written = Vec::new();
        write_datagram(&target, &hex("cafe"), &mut written);
        assert_eq!(written, wire);
    }
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    let wire = hex("0000 00 01 0a640001 0035");
    assert_eq!(read_datagram(&wire), Ok((address("10.100.0.1", 53), &[][..])));
}

#[test]
fn fragments_and_torn_datagrams_are_dropped() {
    for (name, wire, error) in [
        ("a fragment", "0000 01 01 0a640001 0035 aa", SocksError::Fragmented),
        ("the last fragment", "0000 81 01 0a640001 0035 aa", SocksError::Fragmented),
        ("nothing", "", SocksError::Truncated),
        ("half an address", "0000 00 01 0a64", SocksError::Truncated),
        ("half a port", "0000 00 01 0a640001 00", SocksError::Truncated),
        ("port 0", "0000 00 01 0a640001 0000", SocksError::InvalidTarget),
        ("another type", "0000 00 05 0a640001 0035", SocksError::AddressTypeNotSupported),
    ] {
        assert_eq!(read_datagram(&hex(wire)), Err(error), "{name}");
    }
}

#[test]
fn any_octets_are_read_without_a_panic_and_in_bounded_memory() {
    let valid = hex("05 01 00  05 01 00 03 04 6563686f 0050 ff");
    seeded(200_000, |random| {
        let mut data = valid.clone();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(0..data.len());
            data[at] = if random.bool() { random.u8(..) } else { random.u8(0..8) };
        }
        data.truncate(random.usize(0..=data.len()));
        check_one_socks_handshake(&data);
        check_one_socks_datagram(data.get(4..).unwrap_or_default());
    });
}

fn handshake(wire: &str, out: &mut Vec<u8>) -> Result<Option<SocksRequest>, SocksError> {
    SocksHandshake::new().read(&mut hex(wire).as_slice(), out)
}

fn name(name: &str, port: u16) -> SocksTarget<'static> {
    SocksTarget { host: SocksHost::Name(Cow::Owned(name.to_owned())), port }
}

fn address(address: &str, port: u16) -> SocksTarget<'static> {
    SocksTarget { host: SocksHost::Address(address.parse().unwrap()), port }
}
