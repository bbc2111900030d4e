//! Configurations of a QUIC client that judges nobody and shows whatever it was given.

use boring::pkey::PKey;
use boring::ssl::{SslContextBuilder, SslMethod, SslVersion};
use boring::x509::X509;
use quiche::{Config, Connection, ConnectionId, RecvInfo};

use crate::Outcome;
use crate::options::Options;

/// Ed25519 is not among the defaults of BoringSSL.
const SIGNATURES: &str = "ed25519:ECDSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA256:RSA-PSS+SHA384";
const TICKET_KEY: [u8; 48] = [9; 48];
const TUNNEL_ALPN: &str = "ztna-tunnel-v2";
const WINDOW: u64 = 1 << 20;

/// Makes the configuration of one end.
pub(crate) fn config(options: &Options) -> Outcome<Config> {
    config_for(options, &options.alpn)
}

/// Makes the configuration of an agent's end of a tunnel.
pub(crate) fn tunnel_config(options: &Options) -> Outcome<Config> {
    let mut config = config_for(options, TUNNEL_ALPN)?;
    // Whole in a channel frame on any path.
    config.set_max_send_udp_payload_size(1_200);
    config.enable_dgram(true, 1_024, 1_024);
    Ok(config)
}

fn config_for(options: &Options, alpn: &str) -> Outcome<Config> {
    let mut builder = SslContextBuilder::new(SslMethod::tls())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_sigalgs_list(SIGNATURES)?;
    if let (Some(chain), Some(key)) = (&options.chain, &options.key) {
        let chain = X509::stack_from_pem(&std::fs::read(chain)?)?;
        let (leaf, rest) = chain.split_first().ok_or("there is no certificate in the chain")?;
        builder.set_certificate(leaf)?;
        for certificate in rest {
            builder.add_extra_chain_cert(certificate.clone())?;
        }
        let key = PKey::private_key_from_pem(&std::fs::read(key)?)?;
        builder.set_private_key(&key)?;
    }

    let mut config = Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, builder)?;
    config.verify_peer(false);
    config.grease(false);
    config.set_application_protos(&[alpn.as_bytes()])?;
    config.set_max_idle_timeout(30_000);
    config.set_max_send_udp_payload_size(1_350);
    config.set_initial_max_data(WINDOW);
    config.set_initial_max_stream_data_bidi_local(if options.reads { WINDOW } else { 1_024 });
    config.set_initial_max_stream_data_bidi_remote(WINDOW);
    config.set_initial_max_streams_bidi(1);
    if options.early {
        config.enable_early_data();
    }
    Ok(config)
}

/// Returns a ticket from a server of this program's own, which hands them out to anybody.
pub(crate) fn ticket(options: &Options) -> Outcome<Vec<u8>> {
    let mut server_config = config(options)?;
    server_config.set_ticket_key(&TICKET_KEY)?;
    let (here, there) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
    let id = ConnectionId::from_ref(&[7; 8]);
    let mut client = quiche::connect(None, &id, here, there, &mut config(options)?)?;
    let mut server = quiche::accept(&id, None, there, here, &mut server_config)?;
    loop {
        let up = deliver(&mut client, &mut server, RecvInfo { from: here, to: there })?;
        let down = deliver(&mut server, &mut client, RecvInfo { from: there, to: here })?;
        if !up && !down {
            break;
        }
    }
    Ok(client.session().ok_or("no ticket came: is there a certificate to show?")?.to_vec())
}

fn deliver(from: &mut Connection, to: &mut Connection, info: RecvInfo) -> Outcome<bool> {
    let mut buffer = [0; 1_500];
    let mut any = false;
    while let Ok((length, _)) = from.send(&mut buffer) {
        any = true;
        to.recv(buffer.get_mut(..length).unwrap_or_default(), info)?;
    }
    Ok(any)
}
