//! The command line: `TEST HOST [key=value …]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::server::Port;

/// One test.
pub(crate) struct Options {
    /// What is run.
    pub(crate) test: String,
    /// Where the server is.
    pub(crate) host: IpAddr,
    /// First of the server's ports, which are consecutive.
    base_port: u16,
    /// How long load is applied.
    pub(crate) duration: Duration,
    /// Connections side by side.
    pub(crate) connections: usize,
    /// Octets of a datagram.
    pub(crate) size: usize,
    /// Datagrams a second; 0 searches the highest that loses less than 1 %.
    pub(crate) rate: u32,
    /// Highest rate that the search tries.
    pub(crate) rate_max: u32,
    /// Whether TCP uses cubic and not whatever the system's default is.
    pub(crate) cubic: bool,
    /// Frames of one channel in one send.
    pub(crate) train: usize,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let [test, host, pairs @ ..] = arguments else {
            return Err("usage: ztna-load serve|TEST HOST [key=value ...]".to_owned());
        };
        let mut options = Self {
            test: test.clone(),
            host: host.parse().map_err(|_| format!("{host} is not an address"))?,
            base_port: 5200,
            duration: Duration::from_secs(3),
            connections: 1,
            size: 1200,
            rate: 0,
            rate_max: 1_000_000,
            cubic: false,
            train: 1,
        };
        for pair in pairs {
            options.set(pair)?;
        }
        Ok(options)
    }

    pub(crate) fn address(&self, port: Port) -> SocketAddr {
        SocketAddr::new(self.host, self.base_port.saturating_add(port as u16))
    }

    /// A relay has one port, which is the base.
    pub(crate) fn address_of_relay(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.base_port)
    }

    fn set(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').ok_or(format!("{pair} is not key=value"))?;
        let number: u32 = value.parse().map_err(|_| format!("{value} is not a number"))?;
        match key {
            "port" => self.base_port = u16::try_from(number).map_err(|_| "port is too large")?,
            "ms" => self.duration = Duration::from_millis(u64::from(number)),
            "connections" => self.connections = number.max(1) as usize,
            "size" => self.size = (number as usize).clamp(HEADER, SIZE_MAX),
            "rate" => self.rate = number,
            "cubic" => self.cubic = number != 0,
            "train" => self.train = (number as usize).clamp(1, TRAIN_MAX),
            "rate-max" => self.rate_max = number.max(1),
            _ => return Err(format!("no option is called {key}")),
        }
        Ok(())
    }
}

/// Octets that a datagram of a rate test must have: run and sequence number.
pub(crate) const HEADER: usize = 16;

/// Largest payload of UDP over IPv4.
const SIZE_MAX: usize = 65_507;

/// `UDP_MAX_SEGMENTS` of the oldest kernels that have GSO.
const TRAIN_MAX: usize = 64;
