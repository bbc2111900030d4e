//! Frames of a packet socket, taken from and put into a stream of octets. Sans-IO.

use std::io::{self, ErrorKind};

/// Octets of the length before a packet.
const LENGTH: usize = 2;

/// No IP packet is smaller than an IPv4 header.
pub(crate) const FRAME_MIN: usize = 20;

/// Octets that wait for a program to read them; about 800 packets of 1,280 octets.
pub(crate) const QUEUE_MAX: usize = 1 << 20;

/// At least this much room is offered to each read: a few dozen packets, or the largest frame.
const READ_SIZE: usize = 64 << 10;

/// Finds packets in what arrives.
#[derive(Debug)]
pub(super) struct FrameReader {
    octets: Vec<u8>,
    start: usize,
    end: usize,
    packet_max: usize,
}

/// Keeps packets until they are written.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    octets: Vec<u8>,
    start: usize,
}

impl FrameReader {
    pub(super) fn new(mtu: u16) -> Self {
        let packet_max = usize::from(mtu);
        Self { octets: vec![0; READ_SIZE + LENGTH + packet_max], start: 0, end: 0, packet_max }
    }

    /// Returns where the next octets go: at least [`READ_SIZE`] of them once all packets were taken.
    pub(super) fn room(&mut self) -> &mut [u8] {
        // What is left is part of one frame.
        self.octets.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.octets.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that the first `length` octets of the room were filled.
    pub(super) fn filled(&mut self, length: usize) {
        self.end = (self.end + length).min(self.octets.len());
    }

    /// Returns the next whole packet, or that the stream is no stream of packets.
    pub(super) fn next_packet(&mut self) -> io::Result<Option<&mut [u8]>> {
        let pending = self.octets.get_mut(self.start..self.end).unwrap_or_default();
        let Some((length, behind)) = pending.split_first_chunk_mut::<LENGTH>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if !(FRAME_MIN..=self.packet_max).contains(&length) {
            let detail = format!(
                "a packet of {length} octets; they have {FRAME_MIN} to {}",
                self.packet_max
            );
            return Err(io::Error::new(ErrorKind::InvalidData, detail));
        }
        let Some(packet) = behind.get_mut(..length) else { return Ok(None) };
        self.start += LENGTH + length;
        Ok(Some(packet))
    }
}

impl FrameWriter {
    /// Queues a packet and returns whether there was room.
    pub(super) fn push(&mut self, packet: &[u8]) -> bool {
        let Ok(length) = u16::try_from(packet.len()) else { return false };
        if self.pending().len() + LENGTH + packet.len() > QUEUE_MAX {
            return false;
        }
        // Moving what is left is paid for by the octets that went.
        if self.start > QUEUE_MAX {
            self.octets.drain(..self.start);
            self.start = 0;
        }
        self.octets.extend(length.to_be_bytes());
        self.octets.extend_from_slice(packet);
        true
    }

    pub(super) fn pending(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    /// Forgets octets that were written.
    pub(super) fn written(&mut self, length: usize) {
        self.start += length;
        if self.pending().is_empty() {
            self.octets.clear();
            self.start = 0;
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::fuzz::check_one_stream;
    use super::*;

    const MTU: u16 = 1_280;

    #[test]
    fn packets_are_found_however_the_stream_is_cut() {
        let mut writer = FrameWriter::default();
        let packets: Vec<Vec<u8>> = [20, 1_280, 21].map(|size| vec![size as u8; size]).into();
        assert!(packets.iter().all(|packet| writer.push(packet)));

        for cut in [1, 2, 3, 7, 1_000, 5_000] {
            let mut reader = FrameReader::new(MTU);
            let mut found = Vec::new();
            for part in writer.pending().chunks(cut) {
                reader.room()[..part.len()].copy_from_slice(part);
                reader.filled(part.len());
                while let Some(packet) = reader.next_packet().unwrap() {
                    found.push(packet.to_vec());
                }
            }
            assert_eq!(found, packets, "{cut}");
        }
    }

    #[test]
    fn a_frame_has_the_size_of_a_packet() {
        for (length, taken) in [(19_u16, false), (20, true), (MTU, true), (MTU + 1, false)] {
            let mut reader = FrameReader::new(MTU);
            reader.room()[..2].copy_from_slice(&length.to_be_bytes());
            reader.filled(2 + usize::from(length));

            assert_eq!(reader.next_packet().is_ok(), taken, "{length}");
        }
    }

    #[test]
    fn a_program_that_does_not_read_is_owed_so_much_and_no_more() {
        let mut writer = FrameWriter::default();
        let packet = [0; 1_022];
        for _ in 0..QUEUE_MAX / 1_024 {
            assert!(writer.push(&packet));
        }

        assert!(!writer.push(&[0; 20]));
        writer.written(22);
        assert!(writer.push(&[0; 20]));
        assert_eq!(writer.pending().len(), QUEUE_MAX);
    }

    #[test]
    fn the_queue_of_a_slow_reader_does_not_grow_beyond_twice_its_bound() {
        let mut writer = FrameWriter::default();
        for _ in 0..10_000 {
            while writer.push(&[0; 1_280]) {}
            writer.written(100_000);
            assert!(writer.octets.len() <= 2 * QUEUE_MAX + 2_000);
        }
    }

    #[test]
    fn no_stream_whatever_breaks_the_reader() {
        let seed = std::env::var("SEED").map_or(11, |seed| seed.parse().expect("a number"));
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..200_000 {
            let mut data = Vec::new();
            while random.u8(..3) > 0 {
                let length = random.u16(..40);
                data.extend(length.to_be_bytes());
                data.extend(std::iter::repeat_n(random.u8(..), length.into()));
            }
            for _ in 0..random.usize(..3) {
                if let Some(octet) = random.choice(&mut data) {
                    *octet = random.u8(..);
                }
            }
            assert!(check_one_stream(&data), "seed={seed} round={round}");
        }
    }
}
