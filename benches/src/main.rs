//! `make bench`. On three real engines: what the manager adds to an engine's own times, measured in turn with it in one run,
//! since the machine's speed changes from minute to minute; and what networks between the nodes cost against ways that the
//! kernel alone makes. On simulated ones: what a manager of thousands needs.

mod fleet;
mod measure;
mod network;
mod plot;
mod subject;

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use wharf_engine::Client;
use wharf_lab::{Lab, LabName, load_busybox};

use crate::{
    measure::{Row, creates, latency},
    subject::Manager,
};

/// Measures a manager over three real engines on this machine, and over thousands of simulated ones. Needs root.
#[derive(Debug, Parser)]
struct Options {
    /// The binary to measure
    #[arg(long)]
    wharf: PathBuf,
    /// The simulator's binary
    #[arg(long)]
    sim: PathBuf,
    /// Only the real engines, only the networks between them, or only the simulated ones
    #[arg(long)]
    only: Option<Only>,
    /// Only simulated fleets of so many engines
    #[arg(long)]
    engines: Option<usize>,
    /// Where the figures go, as JSON
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Requests per row of latency
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// Containers per row of creates
    #[arg(long, default_value_t = 120)]
    creates: usize,
    /// Rounds in which the ways between containers are measured in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Real,
    Network,
    Simulated,
}

/// The lab; it goes with this.
struct Engines(Lab);

impl Drop for Engines {
    fn drop(&mut self) {
        // The next run begins with taking it down.
        Lab::down(self.0.name()).ok();
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if wanted(Only::Real) {
        rows.extend(on_real_engines(&options, &runtime)?);
    }
    if wanted(Only::Network) {
        rows.extend(network::measure(&options, &runtime)?);
    }
    if wanted(Only::Simulated) {
        let wanted = |size: &&fleet::Size| options.engines.is_none_or(|engines| engines == size.engines);
        for size in fleet::SIZES.iter().filter(wanted) {
            rows.extend(runtime.block_on(fleet::measure(&options.wharf, &options.sim, *size))?);
        }
    }
    report(&options, &rows)
}

fn on_real_engines(options: &Options, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Vec<Row>> {
    let name: LabName = "bench".parse()?;
    Lab::down(&name)?;
    let engines = Engines(Lab::up(name, 3, |_| {})?);
    let folder = tempfile::tempdir()?;
    let manager = Manager::start(&options.wharf, folder.path(), &engines.0.discovery(), &[])?;
    let nodes = engines.0.nodes()?;
    load_busybox(&nodes[0].endpoint)?;
    let direct: Vec<_> =
        nodes.iter().map(|node| Ok(Client::new(node.endpoint.parse()?))).collect::<anyhow::Result<_>>()?;
    let fleet = Client::new(manager.endpoint());
    runtime.block_on(run(options, &direct, &fleet, &manager))
}

async fn run(options: &Options, direct: &[Client], fleet: &Client, manager: &Manager) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![Row::single("resident memory, three empty engines", manager.resident()?, "MiB")];
    // One container to look at: on the engine that is asked directly, too.
    let subject = "{\"Image\":\"busybox\",\"Cmd\":[\"true\"],\"Env\":[\"constraint:node==node1\"]}";
    let made = measure::post(fleet, "/v1.41/containers/create?name=subject", subject).await?;
    let id = made["Id"].as_str().context("a container's id")?.to_owned();
    for (what, path) in [
        ("GET /_ping", "/_ping".to_owned()),
        ("GET /containers/ID/json", format!("/v1.41/containers/{id}/json")),
        ("GET /containers/json?all=1, 1 container", "/v1.41/containers/json?all=1".to_owned()),
    ] {
        rows.extend(latency(what, &path, &direct[0], fleet, options.requests).await?);
    }
    for clients in [1, 16] {
        rows.extend(creates(clients, options.creates, direct, fleet).await?);
    }
    rows.push(Row::single("resident memory after that", manager.resident()?, "MiB"));
    let before = manager.cpu()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = manager.cpu()?.saturating_sub(before);
    rows.push(Row::single("CPU at rest, of one core", used.as_secs_f64() * 10.0, "%"));
    Ok(rows)
}

fn report(options: &Options, rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{:<44} {:>12} {:>12} {:>12}", "", "engine", "wharf", "difference")?;
    for row in rows {
        writeln!(out, "{row}")?;
    }
    let json: Vec<_> = rows.iter().map(Row::json).collect();
    if let Some(folder) = options.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.json, serde_json::to_string_pretty(&json)?)?;
    writeln!(out, "\n(the figures as JSON: {})", options.json.display())?;
    if options.only != Some(Only::Real) {
        let picture = options.json.with_extension("svg");
        plot::draw(rows, &picture)?;
        writeln!(out, "(as a picture: {})", picture.display())?;
    }
    Ok(())
}
