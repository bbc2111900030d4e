//! The targets of `native/fuzz`, which itself needs a nightly compiler, with their seeds.

use std::path::{Path, PathBuf};

use super::*;

/// A target's name and its body.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 14] = [
    ("certificate", certificate),
    ("channel", channel),
    ("control_stream", control_stream),
    ("flow_datagram", flow_datagram),
    ("flow_header", flow_header),
    ("ip_packet", ip_packet),
    ("packet_stream", packet_stream),
    ("path", path),
    ("pieces", pieces),
    ("retry_token", retry_token),
    ("socks_datagram", socks_datagram),
    ("socks_handshake", socks_handshake),
    ("stun", stun),
    ("termination", termination),
];

#[test]
fn every_target_hands_its_octets_to_the_body_of_its_name() {
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).unwrap();
    let files: Vec<PathBuf> = files_of("fuzz_targets");

    assert_eq!(files.len(), TARGETS.len());
    for (file, (name, _)) in files.iter().zip(TARGETS) {
        assert_eq!(file.file_stem().unwrap(), name);
        let target = std::fs::read_to_string(file).unwrap();
        assert!(target.contains(&format!("ztna_dataplane::fuzzing::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}

#[test]
fn no_seed_is_a_finding() {
    for (name, body) in TARGETS {
        for seed in seeds(name) {
            body(&seed);
        }
    }
}

#[test]
fn the_seeds_of_checks_and_certificates_are_what_they_seem() {
    assert!(!seeds("path").is_empty());
    for seed in seeds("stun").into_iter().chain(seeds("path")) {
        assert!(stun::fuzz::check_one_stun(&seed));
    }
    let certificates = seeds("certificate");
    assert!(!certificates.is_empty());
    for seed in certificates {
        assert!(tls::fuzz::check_one_certificate(&seed));
    }
}

#[test]
fn the_seeds_of_channels_are_forwarded() {
    let [mut frame, train] = seeds("channel").try_into().unwrap();
    let mut table = channel::fuzz::open_table(0);
    channel::fuzz::check_one_channel_frame(&mut table, &mut frame, epoch());
    assert_eq!(table.counters().packets, 1);

    assert_eq!(channel::fuzz::check_one_channel_train(&train[2..], 40), 5);
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    files_of(&format!("seeds/{target}")).iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Returns the files of a folder of `native/fuzz` by name, none if there is no such folder.
fn files_of(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}
