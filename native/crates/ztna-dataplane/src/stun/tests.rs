use serde_json::Value;

use super::fuzz::{PASSWORD, check_one_stun, encode};
use super::*;

#[test]
fn golden_messages_are_read_and_written_octet_for_octet() {
    for row in rows("accepted") {
        let name = text(&row, "name");
        let wire = hex(text(&row, "wire"));
        let password = text(&row, "password");

        let received = decode(&wire).unwrap_or_else(|error| panic!("{name}: {error}"));

        assert!(received.verify(password), "{name}");
        let transaction = TransactionId(hex(text(&row, "transaction")).try_into().unwrap());
        let expected = if text(&row, "kind") == "request" {
            Message::Request(Request {
                transaction,
                username: text(&row, "username"),
                use_candidate: row["useCandidate"].as_bool().unwrap(),
                selection: row["selection"].as_u64().map(|number| number.try_into().unwrap()),
                padding: row["padding"].as_u64().map(|octets| octets.try_into().unwrap()),
            })
        } else {
            let mapped = text(&row, "mapped").parse().unwrap();
            Message::Response(Response { transaction, mapped })
        };
        assert_eq!(received.message, expected, "{name}");
        assert_eq!(encode(&expected, password).unwrap(), wire, "{name}");
    }
}

#[test]
fn malformed_messages_are_refused_with_their_reason() {
    for row in rows("refused") {
        let name = text(&row, "name");

        let refused = decode(&hex(text(&row, "wire"))).map(|_| ()).unwrap_err();

        assert_eq!(refused.to_string(), text(&row, "reason"), "{name}");
    }
}

#[test]
fn a_wrong_password_or_any_changed_bit_fails_the_integrity() {
    let wire = encode(&Message::Request(request()), PASSWORD).unwrap();
    assert!(!decode(&wire).unwrap().verify("another"));

    for bit in 0..wire.len() * 8 {
        let mut changed = wire.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!decode(&changed).is_ok_and(|received| received.verify(PASSWORD)), "bit {bit}");
    }
}

#[test]
fn a_message_has_at_most_1500_octets() {
    let mut padded = request();
    padded.padding = padded.padding_to(1_500);
    assert_eq!(encode(&Message::Request(padded), PASSWORD).unwrap().len(), 1_500);
    assert!(decode(&encode(&Message::Request(padded), PASSWORD).unwrap()).is_ok());

    padded.padding = padded.padding_to(1_504);
    let wire = encode(&Message::Request(padded), PASSWORD).unwrap();
    assert_eq!(decode(&wire).map(|_| ()), Err(DecodeError::TooLong));
}

#[test]
fn every_size_that_a_check_tests_can_be_padded_to() {
    for size in [100, 1_200, 1_240, 1_280, 1_320, 1_352, 1_400, 1_440, 1_452] {
        let mut padded = request();
        padded.padding = padded.padding_to(size);
        let wire = encode(&Message::Request(padded), PASSWORD).unwrap();
        assert_eq!(wire.len(), usize::from(size));
    }
    assert_eq!(request().padding_to(90), None, "no room for the attribute's header");
    assert_eq!(request().padding_to(1_201), None, "no multiple of 4");
}

#[test]
fn a_buffer_one_octet_short_is_refused_and_one_that_fits_is_filled() {
    let size = encode(&Message::Request(request()), PASSWORD).unwrap().len();
    assert!(size <= 120, "a check has at most 120 octets");

    assert_eq!(request().encode(PASSWORD, &mut vec![0; size]), Some(size));
    assert_eq!(request().encode(PASSWORD, &mut vec![0; size - 1]), None);
}

#[test]
fn attributes_that_may_be_ignored_are_skipped() {
    let mut wire = encode(&Message::Request(request()), PASSWORD).unwrap();
    wire.truncate(wire.len() - INTEGRITY_BYTES);
    wire.extend_from_slice(&[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
    let length = u16::try_from(wire.len() + INTEGRITY_BYTES - HEADER_BYTES).unwrap();
    wire[2..4].copy_from_slice(&length.to_be_bytes());
    let tag = integrity(PASSWORD, &wire);
    wire.extend_from_slice(&[0, 0x1C, 0, 32]);
    wire.extend_from_slice(&tag);

    let received = decode(&wire).unwrap();

    assert!(received.verify(PASSWORD));
    assert_eq!(received.message, Message::Request(request()));
}

#[test]
fn hostile_octets_never_panic_and_what_is_accepted_round_trips() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(8_489);
    let mut rng = fastrand::Rng::with_seed(seed);
    let corpus: Vec<_> = rows("accepted").iter().map(|row| hex(text(row, "wire"))).collect();
    let mut accepted = 0_u32;

    for _ in 0..200_000 {
        let data = hostile_input(&mut rng, &corpus);
        accepted += u32::from(
            std::panic::catch_unwind(|| check_one_stun(&data))
                .unwrap_or_else(|_| panic!("seed={seed} data={data:02x?}")),
        );
    }

    assert!(accepted > 1_000, "seed={seed}: only {accepted} inputs went past the parser");
}

fn hostile_input(rng: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    if rng.u8(..) < 32 {
        let length = rng.usize(..120);
        return std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
    }
    let mut data = corpus[rng.usize(..corpus.len())].clone();
    for _ in 0..rng.usize(..4) {
        let at = rng.usize(..data.len());
        match rng.u8(..5) {
            0 => data[at] = rng.u8(..),
            1 => data[at] ^= 1 << rng.u8(..8),
            2 => data.truncate(at.max(1)),
            3 => drop(data.splice(at..at, [0; 4])),
            _ => data.extend_from_slice(&corpus[rng.usize(..corpus.len())]),
        }
    }
    if rng.bool() && data.len() >= HEADER_BYTES {
        let length = u16::try_from(data.len() - HEADER_BYTES).unwrap();
        data[2..4].copy_from_slice(&length.to_be_bytes());
    }
    data
}

fn request() -> Request<'static> {
    Request {
        transaction: TransactionId(*b"abcdefghijkl"),
        username: "00112233445566ff",
        use_candidate: true,
        selection: Some(3),
        padding: None,
    }
}

fn rows(table: &str) -> Vec<Value> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../../test/vectors/stun.json")).unwrap();
    vectors[table].as_array().unwrap().clone()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{field} of {row}"))
}

fn hex(digits: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(octet).collect()
}
