//! A peer that no sane program is: odd certificates, broken frames, tickets, floods.
//!
//! `ztna-hostile WHAT HOST:PORT [key=value …]` does one thing to whoever listens there and prints one
//! JSON object. It shares no code with the data plane: what both got wrong would go unnoticed.
//!
//! * `dial` makes one QUIC connection and tells how it ended.
//! * `garbage` sends random datagrams and mutated copies of real ones.
//! * `half-open` begins handshakes from many sources and finishes none.
//! * `tunnel` opens a session as an agent does and is hostile inside its tunnel, to the connector.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]
#![expect(clippy::disallowed_methods, reason = "a flood is paced; nothing of it is in the product")]

mod client;
mod dial;
mod garbage;
mod half_open;
mod options;
mod raw_udp;
mod session;
mod tunnel;

use std::error::Error;
use std::process::ExitCode;

use options::Options;

/// What goes wrong here is told to whoever reads a test's output, and nobody decides by it.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(3)
        }
    }
}

fn run(arguments: &[String]) -> Outcome<serde_json::Value> {
    let options = Options::parse(arguments)?;
    match options.what.as_str() {
        "dial" => dial::dial(&options),
        "garbage" => garbage::garbage(&options),
        "half-open" => half_open::half_open(&options),
        "tunnel" => tunnel::tunnel(&options),
        other => Err(format!("nothing is called {other}").into()),
    }
}
