//! What holds for any octets that begin a flow.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use super::FlowHeaderReader;

pub(crate) fn check_one_flow_header(data: &[u8]) {
    let mut rest = data;
    if let Ok(Some(header)) = FlowHeaderReader::new().read(&mut rest) {
        let mut written = Vec::new();
        header.write(&mut written);
        assert_eq!(written, data[..data.len() - rest.len()]);
    }
}
