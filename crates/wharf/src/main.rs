//! `wharf`: one Docker for all your hosts. This crate reads the command line, wires the parts together and ends with an
//! exit code that means something; what the parts do is theirs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod lab;
mod serve;

/// One Docker for all your hosts: the Docker API in front of a fleet of Docker engines.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Options),
    Lab(lab::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve::run(options),
        Command::Lab(options) => lab::run(options),
    };
    result.unwrap_or_else(|error| {
        eprintln(&format!("wharf: {error:#}"));
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stderr, reason = "this is the command's own voice")]
fn eprintln(text: &str) {
    eprintln!("{text}");
}
