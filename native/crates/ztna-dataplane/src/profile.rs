//! The transport profile of legs and tunnels (`docs/protocol.md`, transport and TLS profile).
//!
//! Two rules that the numbers below keep: **a leg cannot hold more than its stream's window**, so
//! that ten thousand of them stay cheap; and **a tunnel is bounded stream by stream**, its connection
//! credit being so large that a flow nobody reads never blocks stream 0.

use std::time::Duration;

use quiche::Config;

/// ALPN of a leg. It is the protocol's version.
pub const LEG_ALPN: &[u8] = b"ztna-v2";

/// ALPN of a tunnel. It is the protocol's version.
pub const TUNNEL_ALPN: &[u8] = b"ztna-tunnel-v2";

/// A leg that is silent for so long is lost.
pub const LEG_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer than any outage that a tunnel is to survive.
pub const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(180);

/// Bidirectional streams that the client of a leg may open: stream 0.
pub const LEG_STREAMS_MAX: u64 = 1;

/// Bidirectional streams that the agent may have open in a tunnel: stream 0 and the flows.
pub const TUNNEL_STREAMS_MAX: u64 = 8_192;

/// Datagrams that wait inside quiche; the rest waits in a queue that can drop its oldest.
pub const DATAGRAM_SEND_QUEUE_MAX: usize = 8;

/// Datagrams that wait inside quiche until the endpoint takes them.
pub const DATAGRAM_RECEIVE_QUEUE_MAX: usize = 1_024;

/// 1,500 less the headers of IPv6 and UDP: the largest payload of an ordinary path.
pub const UDP_PAYLOAD_SEND_MAX: usize = 1_452;

const LEG_STREAM_WINDOW: u64 = 128 << 10;
const LEG_CONNECTION_WINDOW: u64 = 256 << 10;
const TUNNEL_STREAM_WINDOW_FIRST: u64 = 64 << 10;
const TUNNEL_STREAM_WINDOW_MAX: u64 = 4 << 20;
const TUNNEL_CONNECTION_WINDOW: u64 = 256 << 20;

/// 65,535 less the UDP header: whatever arrives can be a packet.
const UDP_PAYLOAD_RECEIVE_MAX: usize = 65_527;

/// RFC 9002 §7.2.
const WINDOW_PACKETS: usize = 10;
/// 350 kB: 28 ms of a link with 100 Mbit/s.
const WINDOW_PACKETS_NEAR: usize = 256;

/// RFC 9002 §6.2.2 says 333 ms, which costs a lost first flight a third of a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// RFC 9000 §18.2 allows no less. One path and one spare id.
const CONNECTION_IDS_MAX: u64 = 2;

/// Which end of the connection the configuration is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Client,
    Server,
}

/// Makes `config` one of a leg.
pub(crate) fn apply_leg(config: &mut Config, end: End) -> quiche::Result<()> {
    apply_common(config)?;
    config.set_application_protos(&[LEG_ALPN])?;
    config.set_max_idle_timeout(millis(LEG_IDLE_TIMEOUT));
    config.set_disable_active_migration(true);

    config.set_initial_max_data(LEG_CONNECTION_WINDOW);
    config.set_max_connection_window(LEG_CONNECTION_WINDOW);
    config.set_max_stream_window(LEG_STREAM_WINDOW);
    apply_streams(config, end, LEG_STREAMS_MAX, LEG_STREAM_WINDOW);
    Ok(())
}

/// Makes `config` one of a tunnel.
pub(crate) fn apply_tunnel(config: &mut Config, end: End) -> quiche::Result<()> {
    apply_common(config)?;
    config.set_application_protos(&[TUNNEL_ALPN])?;
    config.set_max_idle_timeout(millis(TUNNEL_IDLE_TIMEOUT));
    config.enable_dgram(true, DATAGRAM_RECEIVE_QUEUE_MAX, DATAGRAM_SEND_QUEUE_MAX);

    config.set_initial_max_data(TUNNEL_CONNECTION_WINDOW);
    config.set_max_connection_window(TUNNEL_CONNECTION_WINDOW);
    config.set_max_stream_window(TUNNEL_STREAM_WINDOW_MAX);
    apply_streams(config, end, TUNNEL_STREAMS_MAX, TUNNEL_STREAM_WINDOW_FIRST);
    Ok(())
}

/// Sets the first congestion window, which is also the least, of tunnels that start from here on.
///
/// The window of BBR is twice the bandwidth-delay product. Between neighbours that is a few packets,
/// less than what any process of the way leaves waiting while another has the processor: the window
/// then limits the rate, the rate that was measured limits the window, and both stay low. On a longer
/// way such jitter is small beside the delay, and a large least window would fill a slow link's queue.
pub(crate) fn set_tunnel_window(config: &mut Config, near: bool) {
    config.set_initial_congestion_window_packets(if near {
        WINDOW_PACKETS_NEAR
    } else {
        WINDOW_PACKETS
    });
}

fn apply_common(config: &mut Config) -> quiche::Result<()> {
    // Greasing the fixed bit would break the first-octet table of the endpoint.
    config.grease(false);
    config.set_cc_algorithm_name("bbr2")?;
    config.enable_pacing(false);
    // The endpoint finds each path's size by its own checks.
    config.discover_pmtu(false);
    config.set_max_send_udp_payload_size(UDP_PAYLOAD_SEND_MAX);
    config.set_max_recv_udp_payload_size(UDP_PAYLOAD_RECEIVE_MAX);
    config.set_initial_rtt(INITIAL_RTT);
    config.set_active_connection_id_limit(CONNECTION_IDS_MAX);
    Ok(())
}

/// Only clients open streams, and only bidirectional ones.
fn apply_streams(config: &mut Config, end: End, streams_max: u64, window: u64) {
    config.set_initial_max_streams_uni(0);
    config.set_initial_max_stream_data_uni(0);
    match end {
        End::Client => {
            config.set_initial_max_streams_bidi(0);
            config.set_initial_max_stream_data_bidi_local(window);
            config.set_initial_max_stream_data_bidi_remote(0);
        }
        End::Server => {
            config.set_initial_max_streams_bidi(streams_max);
            config.set_initial_max_stream_data_bidi_local(0);
            config.set_initial_max_stream_data_bidi_remote(window);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
