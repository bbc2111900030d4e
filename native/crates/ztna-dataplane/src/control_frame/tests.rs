use super::fuzz::check_one_control_stream;
use super::*;
use crate::test_support::seeded;

#[test]
fn a_frame_is_its_length_and_its_body() {
    let mut wire = Vec::new();

    write_frame(b"{}", &mut wire).unwrap();

    assert_eq!(wire, [0, 0, 0, 2, b'{', b'}']);
}

#[test]
fn frames_come_out_one_at_a_time_however_they_were_cut() {
    let mut wire = Vec::new();
    write_frame(b"first", &mut wire).unwrap();
    write_frame(b"second", &mut wire).unwrap();

    for size in 1..=wire.len() {
        let mut reader = FrameReader::new();
        let mut bodies = Vec::new();
        for mut part in wire.chunks(size) {
            while !part.is_empty() {
                bodies.extend(reader.read(&mut part).unwrap());
            }
        }

        assert_eq!(bodies, [b"first".to_vec(), b"second".to_vec()], "in parts of {size}");
        assert_eq!(reader.held(), 0);
    }
}

#[test]
fn what_follows_a_frame_stays_with_the_caller() {
    let mut wire = Vec::new();
    write_frame(b"first", &mut wire).unwrap();
    wire.extend_from_slice(b"rest");
    let mut octets = wire.as_slice();

    assert_eq!(FrameReader::new().read(&mut octets), Ok(Some(b"first".to_vec())));

    assert_eq!(octets, b"rest");
}

#[test]
fn before_admission_a_body_of_16384_passes_and_one_more_does_not() {
    assert_eq!(read_length(&mut FrameReader::new(), 16_384), Ok(16_384));
    assert_eq!(
        read_length(&mut FrameReader::new(), 16_385),
        Err(ControlFrameError::TooLarge { length: 16_385, max: 16_384 })
    );
}

#[test]
fn after_admission_a_body_of_65536_passes_and_one_more_does_not() {
    let mut reader = FrameReader::new();
    reader.admit();

    assert_eq!(read_length(&mut reader, 65_536), Ok(65_536));
    assert_eq!(
        read_length(&mut reader, 65_537),
        Err(ControlFrameError::TooLarge { length: 65_537, max: 65_536 })
    );
}

#[test]
fn an_oversized_length_is_refused_before_its_body_arrives() {
    let mut reader = FrameReader::new();

    assert!(reader.read(&mut &[0xff; 4][..]).is_err());

    assert_eq!(reader.held(), 0);
}

#[test]
fn an_empty_body_is_refused_in_both_directions() {
    assert_eq!(FrameReader::new().read(&mut &[0; 4][..]), Err(ControlFrameError::Empty));
    assert_eq!(write_frame(b"", &mut Vec::new()), Err(ControlFrameError::Empty));
}

#[test]
fn a_body_over_the_maximum_is_not_written() {
    let mut out = Vec::new();

    assert!(write_frame(&vec![b' '; BODY_BYTES_MAX], &mut out).is_ok());
    out.clear();
    assert!(write_frame(&vec![b' '; BODY_BYTES_MAX + 1], &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut reader = FrameReader::new();
    reader.admit();

    reader.read(&mut &[0, 1, 0, 0, b'{'][..]).unwrap();

    assert!(reader.body.capacity() <= 64, "{} octets reserved", reader.body.capacity());
}

#[test]
fn any_octets_are_read_without_a_panic_and_in_bounded_memory() {
    seeded(200_000, |random| {
        let mut data: Vec<u8> = (0..random.usize(0..48)).map(|_| random.u8(..)).collect();
        // Small lengths, or a body would never be reached.
        for octet in data.iter_mut().take(3) {
            if random.bool() {
                *octet = 0;
            }
        }
        check_one_control_stream(&data);
    });
}

fn read_length(reader: &mut FrameReader, length: usize) -> Result<usize, ControlFrameError> {
    let mut wire = u32::try_from(length).unwrap().to_be_bytes().to_vec();
    wire.resize(4 + length, b' ');
    let mut octets = wire.as_slice();
    Ok(reader.read(&mut octets)?.unwrap().len())
}
