//! `wharf swarm …`, or `wharf` called as `swarm`: the command line of the predecessor, Docker Swarm 1.2.9, with its flags,
//! defaults, environment and error texts. Discovery is `nodes://` and `file://`; what else it had says that it is not there.

use std::{io::Write, process::ExitCode, str::FromStr};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use wharf_manager::Naming;
use wharf_model::Endpoint;
use wharf_plan::{Policy, Strategy};
use wharf_store::discovery::{Change, Discovery};

use crate::{
    access::{SocketOptions, TlsOptions},
    manager::{self, Settings},
    serve,
};

/// The predecessor's command line: Docker Swarm as it was before swarm mode.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Log more.
    #[arg(long, global = true, env = "DEBUG", value_parser = clap::builder::BoolishValueParser::new())]
    debug: bool,

    /// Log level: debug, info, warn, error, fatal or panic.
    #[arg(long, short, global = true, value_parser = level)]
    log_level: Option<&'static str>,

    /// Accepted; there is nothing behind it any more.
    #[arg(long, global = true)]
    experimental: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a cluster
    #[command(visible_alias = "c")]
    Create {
        /// None is taken.
        #[arg(hide = true)]
        arguments: Vec<String>,
    },
    /// List nodes in a cluster
    #[command(visible_alias = "l")]
    List(List),
    /// Manage a docker cluster
    #[command(visible_alias = "m")]
    Manage(Box<Manage>),
    /// Join a docker cluster
    #[command(visible_alias = "j")]
    Join(Join),
}

#[derive(Debug, Args)]
struct List {
    /// How long to wait for the list.
    #[arg(long, default_value = "10s", allow_hyphen_values = true)]
    timeout: SignedDuration,

    /// Options of the discovery.
    #[arg(long, value_name = "KEY=VALUE")]
    discovery_opt: Vec<String>,

    /// Where the engines are.
    #[arg(env = "SWARM_DISCOVERY")]
    discovery: Option<String>,
}

#[derive(Debug, Args)]
struct Join {
    /// The address of the engine that joins, for the managers.
    #[arg(long, visible_alias = "addr", env = "SWARM_ADVERTISE")]
    advertise: Option<String>,

    /// How often it registers.
    #[arg(long, default_value = "60s", allow_hyphen_values = true)]
    heartbeat: SignedDuration,

    /// How long a registration holds.
    #[arg(long, default_value = "180s", allow_hyphen_values = true)]
    ttl: SignedDuration,

    /// The longest time before the first registration.
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    delay: SignedDuration,

    /// Options of the discovery.
    #[arg(long, value_name = "KEY=VALUE")]
    discovery_opt: Vec<String>,

    /// Where the engines are.
    #[arg(env = "SWARM_DISCOVERY")]
    discovery: Option<String>,
}

#[derive(Debug, Args)]
struct Manage {
    /// How a container's node is chosen: spread, binpack or random.
    #[arg(long, default_value = "spread", value_parser = serve::strategy)]
    strategy: Strategy,

    /// A rule that nodes must fulfil; may be given several times. [default: all of them]
    #[arg(long = "filter", short, value_parser = serve::filter)]
    filters: Vec<&'static str>,

    /// Where clients connect: tcp://ADDRESS:PORT or unix:///PATH.
    #[arg(long, short = 'H', env = "SWARM_HOST", value_delimiter = ',')]
    host: Vec<String>,

    /// Several managers, of which one leads: not there yet.
    #[arg(long)]
    replication: bool,

    /// How long the leader is believed to be one.
    #[arg(long, default_value = "20s", allow_hyphen_values = true)]
    replication_ttl: SignedDuration,

    /// The address of this manager, for the others.
    #[arg(long, visible_alias = "addr", env = "SWARM_ADVERTISE")]
    advertise: Option<String>,

    #[command(flatten)]
    tls: TlsOptions,

    #[command(flatten)]
    sockets: SocketOptions,

    /// Checked and not used: engines tell of changes themselves.
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    engine_refresh_min_interval: SignedDuration,

    /// Checked and not used: engines tell of changes themselves.
    #[arg(long, default_value = "60s", allow_hyphen_values = true)]
    engine_refresh_max_interval: SignedDuration,

    /// Checked and not used: an engine that does not answer is known at once.
    #[arg(long, default_value = "3", allow_negative_numbers = true)]
    engine_failure_retry: i64,

    /// Deprecated by the predecessor.
    #[arg(long, default_value = "3", hide = true, allow_negative_numbers = true)]
    engine_refresh_retry: i64,

    /// Checked and not used: discovery is followed.
    #[arg(long, default_value = "60s", allow_hyphen_values = true)]
    heartbeat: SignedDuration,

    /// Web pages may use the API: refused.
    #[arg(long, visible_alias = "cors")]
    api_enable_cors: bool,

    /// Only swarm.
    #[arg(long, short, default_value = "swarm")]
    cluster_driver: String,

    /// Options of the discovery.
    #[arg(long, value_name = "KEY=VALUE")]
    discovery_opt: Vec<String>,

    /// swarm.overcommit=0.05, swarm.createretry=0.
    #[arg(long, value_name = "KEY=VALUE")]
    cluster_opt: Vec<String>,

    /// Accepted: lists are always as new as their engines.
    #[arg(long)]
    refresh_on_node_filter: bool,

    /// Accepted: lists are always as new as their engines.
    #[arg(long)]
    container_name_refresh_filter: Option<String>,

    /// Where the manager keeps what must outlive it. [default: /var/lib/wharf, or ~/.local/share/wharf]
    #[arg(long, value_name = "DIR", env = "WHARF_DATA")]
    data: Option<std::path::PathBuf>,

    /// Where the engines are: nodes://ADDRESS:PORT,… or file://PATH.
    #[arg(env = "SWARM_DISCOVERY")]
    discovery: Option<String>,
}

/// Does what was asked.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let log = options.log_level.unwrap_or(if options.debug { "debug" } else { "info" });
    match options.command {
        Command::Create { arguments } => {
            ensure!(arguments.is_empty(), "the `create` command takes no arguments. See 'swarm create --help'.");
            bail!(
                "`swarm create` asked a service of Docker's for a token, which was switched off in 2019: name the engines \
                 by nodes://ADDRESS:PORT,… or file://PATH"
            )
        }
        Command::List(list) => list.run(),
        Command::Join(join) => join.run(),
        Command::Manage(manage) => manage.run(log),
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        ensure!(self.timeout > SignedDuration::ZERO, "--timeout should be a positive number");
        let discovery = discovery(self.discovery, "list a cluster", "list", &self.discovery_opt)?;
        let timeout = self.timeout.unsigned_abs();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let change =
            runtime.block_on(async { tokio::time::timeout(timeout, async { discovery.watch().next().await }).await });
        let mut out = std::io::stdout().lock();
        match change.map_err(|_| anyhow::anyhow!("Timed out"))? {
            Change::Set(endpoints) => {
                endpoints.iter().try_for_each(|endpoint| writeln!(out, "{}", endpoint.address()))?
            }
            Change::Problem(error) => return Err(error.into()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Join {
    fn run(self) -> anyhow::Result<ExitCode> {
        let text = self.discovery.as_deref().unwrap_or_default().to_owned();
        discovery(self.discovery, "join a cluster", "join", &self.discovery_opt)?;
        let advertise =
            self.advertise.filter(|address| !address.is_empty()).context("missing mandatory --advertise flag")?;
        check_address(&advertise)?;
        ensure!(self.heartbeat >= SignedDuration::from_secs(1), "--heartbeat should be at least one second");
        ensure!(self.ttl > self.heartbeat, "--ttl must be strictly superior to the heartbeat value");
        ensure!(self.delay >= SignedDuration::ZERO, "--delay should not be a negative number");
        bail!("{text} is a list that nobody can register with: write {advertise} into it yourself")
    }
}

impl Manage {
    fn run(self, log: &'static str) -> anyhow::Result<ExitCode> {
        let positive = |duration: SignedDuration| duration > SignedDuration::ZERO;
        let overcommit = self.cluster_options();
        let text = required(self.discovery, "manage a cluster", "manage")?;
        let tls = self.tls.read()?;
        ensure!(positive(self.engine_refresh_min_interval), "min refresh interval should be a positive number");
        ensure!(
            self.engine_refresh_max_interval >= self.engine_refresh_min_interval,
            "max refresh interval cannot be less than min refresh interval"
        );
        ensure!(self.engine_refresh_retry == 3, "--engine-refresh-retry is deprecated. Use --engine-failure-retry");
        ensure!(self.engine_failure_retry > 0, "invalid failure retry count");
        ensure!(self.heartbeat >= SignedDuration::from_secs(1), "--heartbeat should be at least one second");
        ensure!(
            self.cluster_driver == "swarm",
            "unsupported cluster driver {:?}: only swarm is there",
            self.cluster_driver
        );
        ensure!(!self.api_enable_cors, "--cors is not served: a web page could do anything on every node");
        let overcommit = overcommit?;
        if self.replication {
            let advertise = self.advertise.as_deref().filter(|address| !address.is_empty());
            check_address(advertise.context("--advertise address must be provided when using --leader-election")?)?;
            ensure!(positive(self.replication_ttl), "--replication-ttl should be a positive number");
            bail!("Leader election is only supported with consul, etcd and zookeeper discovery.");
        }
        discovery(Some(text.clone()), "manage a cluster", "manage", &self.discovery_opt)?;
        let hosts = if self.host.is_empty() { vec!["tcp://127.0.0.1:2375".to_owned()] } else { self.host };
        let hosts = hosts.iter().map(|host| host_endpoint(host)).collect::<anyhow::Result<_>>()?;
        let mut policy = Policy { overcommit, ..Policy::new(self.strategy) };
        policy.without = serve::without(&self.filters);
        manager::run(Settings {
            hosts,
            access: self.sockets.access(&tls),
            engine_tls: tls.client,
            policy,
            naming: Naming::Node,
            data: self.data,
            discovery: text,
            // Nothing of Wharf's own on the nodes, as the predecessor had it.
            agents: None,
            pools: Vec::new(),
            default_network: None,
            log,
        })
    }

    /// What `--cluster-opt` says of overbooking, in per mille.
    fn cluster_options(&self) -> anyhow::Result<i32> {
        let mut overcommit = serve::overcommit("0.05").map_err(anyhow::Error::msg)?;
        for option in &self.cluster_opt {
            match option.split_once('=') {
                Some(("swarm.overcommit", share)) => {
                    overcommit = serve::overcommit(share).map_err(anyhow::Error::msg)?
                }
                Some(("swarm.createretry", count)) => {
                    let count: i64 = count.parse().with_context(|| format!("--cluster-opt {option}"))?;
                    ensure!(count >= 0, "swarm.createretry can not be negative, {count} is invalid");
                }
                _ => bail!("--cluster-opt {option}: want swarm.overcommit=SHARE or swarm.createretry=COUNT"),
            }
        }
        Ok(overcommit)
    }
}

fn required(text: Option<String>, purpose: &str, command: &str) -> anyhow::Result<String> {
    text.filter(|text| !text.is_empty())
        .with_context(|| format!("discovery required to {purpose}. See 'swarm {command} --help'."))
}

fn discovery(text: Option<String>, purpose: &str, command: &str, options: &[String]) -> anyhow::Result<Discovery> {
    let text = required(text, purpose, command)?;
    ensure!(options.is_empty(), "--discovery-opt {}: {text} has no options", options.join(" "));
    if text.starts_with("token://") {
        bail!("{text}: the service behind tokens was switched off in 2019: use nodes://ADDRESS:PORT,… or file://PATH");
    }
    Discovery::parse(&text).with_context(|| text.clone())
}

/// The predecessor's rule for what is advertised.
fn check_address(address: &str) -> anyhow::Result<()> {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !address.contains("://") && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    ensure!(good, "--advertise should be of the form ip:port or hostname:port");
    Ok(())
}

/// Where clients connect; `:PORT` means all addresses, and the scheme may be left out.
fn host_endpoint(text: &str) -> anyhow::Result<Endpoint> {
    let bare = text.strip_prefix("tcp://").unwrap_or(text);
    let full = if bare.starts_with(':') { format!("tcp://0.0.0.0{bare}") } else { text.to_owned() };
    Endpoint::from_str(&full).with_context(|| format!("--host {text}"))
}

fn level(text: &str) -> Result<&'static str, String> {
    match text {
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warn" | "warning" => Ok("warn"),
        "error" | "fatal" | "panic" => Ok("error"),
        _ => Err("want one of debug, info, warn, error, fatal, panic".to_owned()),
    }
}
