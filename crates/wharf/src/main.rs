//! `wharf`: one Docker for all your hosts. This crate reads the command line, wires the parts together and ends with an
//! exit code that means something; what the parts do is theirs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod access;
mod agent;
mod client;
mod explain;
mod lab;
mod manager;
mod net;
mod node;
mod serve;
mod swarm;
mod table;

/// The C library's keeps most of what a start needs and gives back: with a thousand engines that is half of the memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One Docker for all your hosts: the Docker API in front of a fleet of Docker engines.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Options>),
    Agent(agent::Options),
    Node(node::Options),
    Net(net::Options),
    Explain(explain::Options),
    Lab(lab::Options),
    Swarm(swarm::Options),
}

/// What `wharf` is when it is called `swarm`.
#[derive(Debug, Parser)]
#[command(name = "swarm", version, max_term_width = 100)]
struct Swarm {
    #[command(flatten)]
    options: swarm::Options,
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = called.as_deref().and_then(|path| path.file_name()).unwrap_or_default();
    let (name, result) = if name == "swarm" {
        ("swarm", swarm::run(Swarm::parse().options))
    } else {
        let result = match Cli::parse().command {
            Command::Serve(options) => serve::run(*options),
            Command::Agent(options) => agent::run(options),
            Command::Node(options) => node::run(options),
            Command::Net(options) => net::run(options),
            Command::Explain(options) => explain::run(options),
            Command::Lab(options) => lab::run(options),
            Command::Swarm(options) => swarm::run(options),
        };
        ("wharf", result)
    };
    result.unwrap_or_else(|error| {
        eprintln(&format!("{name}: {error:#}"));
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stderr, reason = "this is the command's own voice")]
fn eprintln(text: &str) {
    eprintln!("{text}");
}
