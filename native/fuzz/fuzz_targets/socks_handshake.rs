#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ztna_dataplane::fuzzing::socks_handshake(data));
