//! Load generator of the benchmarks: both ends of a test, with or without a tunnel between.
//!
//! `ztna-load serve HOST` listens on the ports of [`server`] and runs until it is killed.
//! `ztna-load TEST HOST [key=value …]` runs one test and prints one JSON object. HOST is whatever
//! leads to the server: its own address, or a virtual one; `ports=` says where if they are forwarded.
//!
//! Blocking sockets and one thread for each connection: what is measured must not depend on how clever
//! the ends are, and both runs of a comparison use the same ends.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator measures time; nothing of it is part of the product"
)]

mod impair;
mod options;
mod relay;
mod server;
mod summary;
mod tcp;
mod udp;

use std::process::ExitCode;

use options::Options;

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

fn run(arguments: &[String]) -> Result<String, String> {
    if let [test, rest @ ..] = arguments
        && test == "impair"
    {
        return impair::run(rest);
    }
    let options = Options::parse(arguments)?;
    let outcome = match options.test.as_str() {
        "serve" => server::serve(&options),
        "tcp-send" => tcp::send(&options),
        "tcp-receive" => tcp::receive(&options),
        "tcp-connect" => tcp::connect(&options),
        "tcp-connect-and-ask" => tcp::connect_and_ask(&options),
        "tcp-rtt" => tcp::round_trips(&options),
        "tcp-first-octet" => tcp::first_octet(&options),
        "http" => tcp::http(&options),
        "forward" => relay::forward(&options),
        "relay" => relay::run(&options),
        "udp-rate" => udp::rate(&options),
        "udp-rtt" => udp::round_trips(&options),
        other => return Err(format!("no test is called {other}")),
    };
    outcome.map_err(|error| format!("{}: {error}", options.test))
}
