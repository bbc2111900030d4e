//! A bad link in user space, where the kernel has no netem: IP packets of one TUN device come out of
//! another, later, and not all of them.
//!
//! `ztna-load impair NEAR FAR [delay-ms=20] [loss-ppm=10000] [queue=10000]` makes both devices, says
//! `ready` and runs until it is killed; the caller moves them to the hosts that the link joins. Delay
//! and loss are of each direction. Packets keep their order; the losses are those of a fixed seed. The
//! devices have no offload, so what is lost is one packet of at most the MTU and never a whole train.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Impairment {
    delay: Duration,
    loss_per_million: u32,
    /// Packets on their way in one direction; what comes on top is lost.
    queue: usize,
}

struct Delayed {
    due: Instant,
    packet: Vec<u8>,
}

pub(crate) fn run(arguments: &[String]) -> Result<String, String> {
    let [near, far, pairs @ ..] = arguments else {
        return Err("usage: ztna-load impair NEAR FAR [key=value ...]".to_owned());
    };
    let impairment = parse(pairs)?;
    let device = |name: &String| open(name).map_err(|error| format!("{name}: {error}"));
    let (near, far) = (device(near)?, device(far)?);
    let ways = [duplicate(&near, &far)?, duplicate(&far, &near)?];
    println!("ready");

    let threads: Vec<_> = ways
        .into_iter()
        .zip(SEEDS)
        .flat_map(|((from, to), seed)| {
            let (sender, receiver) = sync_channel(impairment.queue);
            [
                thread::spawn(move || take(from, &sender, impairment, Dice(seed))),
                thread::spawn(move || give(to, &receiver)),
            ]
        })
        .collect();
    for it in threads {
        it.join()
            .map_err(|_| "a thread panicked".to_owned())?
            .map_err(|error| format!("the link broke: {error}"))?;
    }
    Ok("{}".to_owned())
}

fn parse(pairs: &[String]) -> Result<Impairment, String> {
    let mut it =
        Impairment { delay: Duration::from_millis(20), loss_per_million: 10_000, queue: 10_000 };
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or(format!("{pair} is not key=value"))?;
        let number: u32 = value.parse().map_err(|_| format!("{value} is not a number"))?;
        match key {
            "delay-ms" => it.delay = Duration::from_millis(u64::from(number)),
            "loss-ppm" => it.loss_per_million = number,
            "queue" => it.queue = number.max(1) as usize,
            _ => return Err(format!("no option is called {key}")),
        }
    }
    Ok(it)
}

fn duplicate(from: &File, to: &File) -> Result<(File, File), String> {
    let both = from.try_clone().and_then(|from| Ok((from, to.try_clone()?)));
    both.map_err(|error| error.to_string())
}

fn take(
    mut from: File,
    to: &SyncSender<Delayed>,
    impairment: Impairment,
    mut dice: Dice,
) -> io::Result<()> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(length) => length,
            // The device is not up until the caller has moved it.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(error) => return Err(error),
        };
        if dice.roll() < impairment.loss_per_million {
            continue;
        }
        let due = Instant::now() + impairment.delay;
        let packet = buffer.get(..length).unwrap_or_default().to_vec();
        // A full queue is a full link.
        let _ = to.try_send(Delayed { due, packet });
    }
}

fn give(mut to: File, from: &Receiver<Delayed>) -> io::Result<()> {
    while let Ok(Delayed { due, packet }) = from.recv() {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        // A device that is down loses what is sent to it.
        let _ = to.write(&packet);
    }
    Ok(())
}

fn open(name: &str) -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all of its fields are integers and pointers, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays 0.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the kernel reads and writes one `ifreq`, which lives.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
}

/// xorshift64: the same losses in each run.
struct Dice(u64);

impl Dice {
    /// Returns a number below a million.
    fn roll(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % 1_000_000) as u32
    }
}

/// One for each direction.
const SEEDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_in_a_hundred_is_lost_at_ten_thousand_in_a_million() {
        for seed in SEEDS {
            let mut dice = Dice(seed);

            let lost = (0..100_000).filter(|_| dice.roll() < 10_000).count();

            assert!((900..1_100).contains(&lost), "{lost}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_link_of_the_marks() {
        let pairs = ["loss-ppm=5".to_owned()];

        let expected =
            Impairment { delay: Duration::from_millis(20), loss_per_million: 5, queue: 10_000 };
        assert_eq!(parse(&pairs), Ok(expected));
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert_eq!(parse(&["los=5".to_owned()]), Err("no option is called los".to_owned()));
    }
}
