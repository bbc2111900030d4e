//! The command line: `WHAT HOST:PORT [key=value …]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is to be done, and to whom.
pub(crate) struct Options {
    /// Name of the deed.
    pub(crate) what: String,
    /// Who suffers it.
    pub(crate) remote: SocketAddr,
    /// Certificates in PEM, leaf first; none are shown without it.
    pub(crate) chain: Option<PathBuf>,
    /// Key of the leaf in PEM.
    pub(crate) key: Option<PathBuf>,
    /// ALPN.
    pub(crate) alpn: String,
    /// Service that a session is opened for.
    pub(crate) service: String,
    /// Octets for stream 0.
    pub(crate) stream: Vec<u8>,
    /// How often they are written.
    pub(crate) repeat: usize,
    /// Whether stream 0 is read.
    pub(crate) reads: bool,
    /// Whether a ticket and early data are offered.
    pub(crate) early: bool,
    /// How long a connection is kept at most, or a flood waits for answers.
    pub(crate) hold: Duration,
    /// Datagrams, handshakes or deeds in a tunnel.
    pub(crate) count: u64,
    /// Datagrams a second.
    pub(crate) rate: u64,
    /// Of the random numbers.
    pub(crate) seed: u64,
    /// Source that a flood pretends to; needs the right to make raw packets.
    pub(crate) spoof: Option<SocketAddr>,
    /// Whether a half-open handshake answers Retry before it falls silent.
    pub(crate) retried: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let [what, remote, pairs @ ..] = arguments else {
            return Err("usage: ztna-hostile WHAT HOST:PORT [key=value ...]".to_owned());
        };
        let mut options = Self {
            what: what.clone(),
            remote: remote.parse().map_err(|_| format!("{remote} is not an address"))?,
            chain: None,
            key: None,
            alpn: "ztna-v2".to_owned(),
            service: String::new(),
            stream: Vec::new(),
            repeat: 1,
            reads: true,
            early: false,
            hold: Duration::from_secs(1),
            count: 1_000,
            rate: 20_000,
            seed: 1,
            spoof: None,
            retried: false,
        };
        for pair in pairs {
            let (key, value) = pair.split_once('=').ok_or(format!("{pair} is not key=value"))?;
            options.set(key, value).map_err(|reason| format!("{pair}: {reason}"))?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|error| error.to_string());
        match key {
            "chain" => self.chain = Some(value.into()),
            "key" => self.key = Some(value.into()),
            "alpn" => value.clone_into(&mut self.alpn),
            "service" => value.clone_into(&mut self.service),
            "stream" => self.stream = std::fs::read(value).map_err(|error| error.to_string())?,
            "repeat" => self.repeat = usize::try_from(number()?).unwrap_or(usize::MAX),
            "reads" => self.reads = number()? != 0,
            "early" => self.early = number()? != 0,
            "ms" => self.hold = Duration::from_millis(number()?),
            "count" => self.count = number()?,
            "rate" => self.rate = number()?.max(1),
            "seed" => self.seed = number()?,
            "spoof" => {
                self.spoof = Some(value.parse().map_err(|_| "it is not an address".to_owned())?);
            }
            "retried" => self.retried = number()? != 0,
            _ => return Err("there is no such option".to_owned()),
        }
        Ok(())
    }
}
