//! `wharf`: one Docker for all your hosts. This crate reads the command line, wires the parts together and ends with an
//! exit code that means something; what the parts do is theirs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One Docker for all your hosts.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

fn main() -> ExitCode {
    match Cli::parse().command {}
}
