//! `wharf serve`: a manager.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use wharf_manager::Naming;
use wharf_model::Endpoint;
use wharf_plan::{
    Policy, Strategy,
    addresses::{Pool, default_pools},
    filter_names,
};

use crate::{
    access::{SocketOptions, TlsOptions},
    manager::{self, Settings},
};

/// Serve the Docker API for a fleet of Docker engines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf serve                                          the engine of this machine, as a fleet of one
  wharf serve nodes://10.0.0.11:2375,10.0.0.12:2375    two engines
  wharf serve nodes://10.0.0.[11:13]:2375              three engines
  wharf serve file:///etc/wharf/nodes                  one engine per line; the file is watched
  wharf serve --host tcp://127.0.0.1:2380 nodes://…    clients connect to a port of this machine
  wharf serve --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem --host tcp://0.0.0.0:2376 nodes://…")]
pub(crate) struct Options {
    /// Where clients connect: unix:///PATH, or tcp://ADDRESS:PORT (beyond loopback with --tlsverify).
    /// May be given several times. [default: unix:///run/wharf/docker.sock]
    #[arg(long, short = 'H', value_name = "URL", env = "WHARF_HOST", value_delimiter = ',')]
    host: Vec<Endpoint>,

    /// How a container's node is chosen: spread, binpack or random.
    #[arg(long, default_value = "spread", value_parser = strategy)]
    strategy: Strategy,

    /// A rule that nodes must fulfil; may be given several times. [default: all of them]
    #[arg(long = "filter", short = 'f', value_name = "NAME", value_parser = filter)]
    filters: Vec<&'static str>,

    /// By how much nodes may be overbooked: 0.05 is 5 %; below 0, how much of each stays free.
    #[arg(long, default_value = "0.05", value_name = "SHARE", value_parser = overcommit, allow_negative_numbers = true)]
    overcommit: i32,

    /// How containers are called in lists: plain (/web, which Compose needs) or node (/node1/web).
    #[arg(long, default_value = "plain", value_parser = naming)]
    names: Naming,

    #[command(flatten)]
    tls: TlsOptions,

    #[command(flatten)]
    sockets: SocketOptions,

    /// Where the manager keeps what must outlive it. [default: /var/lib/wharf, or ~/.local/share/wharf]
    #[arg(long, value_name = "DIR", env = "WHARF_DATA")]
    data: Option<PathBuf>,

    /// Have no agents on the nodes: networks are each one node's.
    #[arg(long)]
    no_agents: bool,

    /// The address and port at which agents reach this manager.
    /// [default: port 2378, of the address that leads to each node]
    #[arg(long, value_name = "ADDRESS:PORT", env = "WHARF_ADVERTISE", conflicts_with = "no_agents")]
    advertise: Option<SocketAddr>,

    /// What ranges of addresses networks get that name none: BASE:SIZE; may be given several times. The first block of the
    /// first is for the nodes themselves. [default: 10.192.0.0/11:16 and 10.224.0.0/11:20]
    #[arg(long = "network-pool", value_name = "BASE:SIZE")]
    pools: Vec<Pool>,

    /// The network of containers that name none: bridge (Docker's, of each node) or fleet (one that spans all nodes).
    #[arg(long, default_value = "bridge", value_name = "bridge|fleet", value_parser = ["bridge", "fleet"])]
    default_network: String,

    /// Where the engines are: nodes://ADDRESS:PORT,… or file://PATH. [default: the engine of this machine]
    #[arg(value_name = "DISCOVERY", env = "WHARF_DISCOVERY")]
    discovery: Option<String>,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let tls = options.tls.read()?;
    let hosts = match options.host {
        hosts if hosts.is_empty() => vec![Endpoint::Unix(manager::socket())],
        hosts => hosts,
    };
    let mut policy = Policy { overcommit: options.overcommit, ..Policy::new(options.strategy) };
    policy.without = without(&options.filters);
    manager::run(Settings {
        hosts,
        access: options.sockets.access(&tls),
        engine_tls: tls.client,
        policy,
        naming: options.names,
        data: options.data,
        discovery: options.discovery.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()),
        agents: (!options.no_agents).then_some(options.advertise),
        pools: if options.pools.is_empty() { default_pools() } else { options.pools },
        default_network: Some(options.default_network).filter(|network| network != "bridge"),
        log: "info",
    })
}

/// The rules that are not kept where only these are asked for; none at all asks for all.
pub(crate) fn without(filters: &[&'static str]) -> Vec<&'static str> {
    filter_names().filter(|name| !filters.is_empty() && !filters.contains(name)).collect()
}

pub(crate) fn strategy(name: &str) -> Result<Strategy, String> {
    Strategy::parse(name).ok_or_else(|| {
        let names: Vec<_> = Strategy::names().collect();
        format!("want one of {}", names.join(", "))
    })
}

pub(crate) fn filter(name: &str) -> Result<&'static str, String> {
    filter_names().find(|known| *known == name).ok_or_else(|| {
        let names: Vec<_> = filter_names().collect();
        format!("want one of {}", names.join(", "))
    })
}

fn naming(name: &str) -> Result<Naming, String> {
    match name {
        "plain" => Ok(Naming::Plain),
        "node" => Ok(Naming::Node),
        _ => Err("want plain or node".to_owned()),
    }
}

/// A share as per mille.
pub(crate) fn overcommit(text: &str) -> Result<i32, String> {
    let share: f64 = text.parse().map_err(|_| "want a number such as 0.05".to_owned())?;
    if !(share > -1.0 && share <= 1000.0) {
        // The predecessor's words.
        return Err(format!("swarm.overcommit should be larger than -1, {share:.6} is invalid"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    Ok((share * 1000.0).round() as i32)
}
