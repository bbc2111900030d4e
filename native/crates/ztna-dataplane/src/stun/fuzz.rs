//! What holds for any octets that are read as a check.

use super::{MESSAGE_BYTES_MAX, Message, decode};

/// Any password will do: what was read is written with it.
pub(super) const PASSWORD: &str = "0123456789abcdef0123456789abcdef";

/// Returns whether the octets were a message.
pub(crate) fn check_one_stun(data: &[u8]) -> bool {
    let Ok(received) = decode(data) else { return false };
    assert!(data.len() <= MESSAGE_BYTES_MAX);

    let again = encode(&received.message, PASSWORD).expect("what was read can be written");
    assert!(again.len() <= data.len(), "nothing grows on the way through");
    let read_again = decode(&again).expect("what was written can be read");
    assert_eq!(read_again.message, received.message);
    true
}

pub(super) fn encode(message: &Message<'_>, password: &str) -> Option<Vec<u8>> {
    let mut out = vec![0xFF; 2_048];
    let size = match message {
        Message::Request(request) => request.encode(password, &mut out),
        Message::Response(response) => response.encode(password, &mut out),
    }?;
    out.truncate(size);
    Some(out)
}
