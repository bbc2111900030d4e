//! What holds for any octets of a program that attached.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use super::FrameReader;

/// Reads a stream in one piece and in small ones, and returns whether both gave the same.
pub(crate) fn check_one_stream(data: &[u8]) -> bool {
    let read = |cut: usize| {
        let mut reader = FrameReader { octets: vec![0; 256], ..FrameReader::new(64) };
        let mut found: Vec<Vec<u8>> = Vec::new();
        for part in data.chunks(cut) {
            reader.room()[..part.len()].copy_from_slice(part);
            reader.filled(part.len());
            loop {
                match reader.next_packet() {
                    Ok(Some(packet)) => found.push(packet.to_vec()),
                    Ok(None) => break,
                    Err(_) => return (found, false),
                }
            }
        }
        (found, true)
    };
    read(3) == read(100)
}
