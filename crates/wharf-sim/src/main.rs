//! `wharf-sim`: a fleet of simulated engines in a process of its own, for the benches and for trying things.

use std::{io::Write, path::PathBuf};

use clap::Parser;
use wharf_sim::{Listen, Shape, Sim};

/// Simulate Docker engines. `PUT /_sim/faults` at one of them makes it slow, hung, …
#[derive(Debug, Parser)]
struct Options {
    /// How many engines
    #[arg(long, short = 'n', default_value_t = 1000)]
    engines: usize,
    /// The number of the first
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Containers on each
    #[arg(long, default_value_t = 50)]
    containers: usize,
    /// The same seed makes the same fleet
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Listen on Unix sockets in this folder [default: TCP, 127.77.0.1:2375 and so on]
    #[arg(long)]
    sockets: Option<PathBuf>,
    /// Write where the engines are into this file, one per line: wharf serve file://FILE
    #[arg(long)]
    discovery: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // A listener and a few connections for each engine.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    anyhow::ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= options.engines as u64 * 3),
        "{} open files are allowed (ulimit -n): too few for {} engines; simulate them in several processes, with --first",
        limit.maximum.unwrap_or_default(),
        options.engines,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listen = options.sockets.map_or(Listen::Tcp(77, 2375), Listen::Unix);
        let shapes = vec![Shape { containers: options.containers, ..Shape::default() }; options.engines];
        let sim = Sim::start(options.seed, options.first, shapes, &listen).await?;
        sim.write_discovery(&options.discovery)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} engines with {} containers each", options.engines, options.containers)?;
        out.flush()?;
        std::future::pending::<anyhow::Result<()>>().await
    })
}
