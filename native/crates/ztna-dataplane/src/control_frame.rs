//! Control frames on stream 0 of a leg or tunnel.
//!
//! ```text
//!  0               4
//!  +---------------+------------------------+
//!  | length (u32)  | body: length octets    |
//!  +---------------+------------------------+
//! ```
//!
//! - **A length is a claim, not an allocation.** Memory grows with the octets that arrived, so a peer
//!   that announces the maximum and stops costs nothing.
//! - **The reader holds one frame at most.** It takes octets out of the caller's slice until a frame is
//!   whole and stops there; the caller decides whether it wants the next.
//! - **An error is final.** The boundary between frames is lost: close the connection.

/// Largest body of an admitted connection (`docs/protocol.md`, legs).
pub(crate) const BODY_BYTES_MAX: usize = 65_536;

/// Largest body before admission (`docs/protocol.md`, legs).
pub(crate) const BODY_BYTES_BEFORE_ADMISSION_MAX: usize = 16_384;

/// Octets of the length.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Why octets are not a control frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ControlFrameError {
    /// The body is larger than allowed.
    #[error("control frame of {length} octets, at most {max} are allowed")]
    TooLarge {
        /// What the frame says.
        length: usize,
        /// What is allowed at this point.
        max: usize,
    },
    /// The body is empty, which is no JSON object.
    #[error("control frame without a body")]
    Empty,
}

/// Appends one frame to `out`.
pub(crate) fn write_frame(body: &[u8], out: &mut Vec<u8>) -> Result<(), ControlFrameError> {
    let length = check_length(body.len(), BODY_BYTES_MAX)?;
    out.reserve(LENGTH_BYTES + body.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    body_bytes_max: usize,
    head: [u8; LENGTH_BYTES],
    head_filled: usize,
    /// Length of the body under way, once its head is complete and judged.
    body_length: usize,
    body: Vec<u8>,
}

impl FrameReader {
    /// Creates a reader for a connection that is not admitted.
    pub(crate) const fn new() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_BEFORE_ADMISSION_MAX,
            head: [0; LENGTH_BYTES],
            head_filled: 0,
            body_length: 0,
            body: Vec::new(),
        }
    }

    /// Allows the larger bodies of an admitted connection.
    pub(crate) const fn admit(&mut self) {
        self.body_bytes_max = BODY_BYTES_MAX;
    }

    /// Takes octets off the front of `octets` until a body is complete, and returns it; `None` when
    /// they ran out first. Call again while octets are left.
    pub(crate) fn read(
        &mut self,
        octets: &mut &[u8],
    ) -> Result<Option<Vec<u8>>, ControlFrameError> {
        if self.head_filled < LENGTH_BYTES {
            let (taken, rest) = octets.split_at(octets.len().min(LENGTH_BYTES - self.head_filled));
            for (slot, octet) in self.head.iter_mut().skip(self.head_filled).zip(taken) {
                *slot = *octet;
            }
            self.head_filled += taken.len();
            *octets = rest;
            if self.head_filled < LENGTH_BYTES {
                return Ok(None);
            }

            let length = usize::try_from(u32::from_be_bytes(self.head)).unwrap_or(usize::MAX);
            if let Err(error) = check_length(length, self.body_bytes_max) {
                // Judged again, and refused again, by whoever goes on reading.
                self.head_filled = 0;
                return Err(error);
            }
            self.body_length = length;
        }

        let missing = self.body_length - self.body.len();
        let (taken, rest) = octets.split_at(octets.len().min(missing));
        if taken.len() == missing {
            self.body.reserve_exact(missing);
        }
        self.body.extend_from_slice(taken);
        *octets = rest;
        if self.body.len() < self.body_length {
            return Ok(None);
        }

        self.head_filled = 0;
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Returns how many octets of an incomplete frame are held.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn held(&self) -> usize {
        self.head_filled + self.body.len()
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

fn check_length(length: usize, max: usize) -> Result<u32, ControlFrameError> {
    match u32::try_from(length) {
        Ok(0) => Err(ControlFrameError::Empty),
        Ok(value) if length <= max => Ok(value),
        Ok(_) | Err(_) => Err(ControlFrameError::TooLarge { length, max }),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
