//! What holds for any octets on a control stream.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use super::{FrameReader, write_frame};

pub(crate) fn check_one_control_stream(data: &[u8]) {
    let mut reader = FrameReader::new();
    let mut rest = data;
    let mut rewritten = Vec::new();
    while !rest.is_empty() {
        match reader.read(&mut rest) {
            Ok(Some(body)) => write_frame(&body, &mut rewritten).unwrap(),
            Ok(None) => assert!(rest.is_empty(), "the reader stops only at a frame's end"),
            Err(_) => return,
        }
        assert!(reader.held() <= data.len());
    }

    assert_eq!(rewritten, data[..data.len() - reader.held()]);
}
