//! `wharf serve`: a manager.

use std::{
    fs::File,
    io::{IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wharf_manager::{Config, Identity, Listener, Manager};
use wharf_model::Endpoint;
use wharf_plan::{Policy, Strategy};
use wharf_store::discovery::Discovery;

/// Nodes have this long to answer before their state is printed; those that need longer come later.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Serve the Docker API for a fleet of Docker engines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf serve                                          the engine of this machine, as a fleet of one
  wharf serve nodes://10.0.0.11:2375,10.0.0.12:2375    two engines
  wharf serve nodes://10.0.0.[11:13]:2375              three engines
  wharf serve file:///etc/wharf/nodes                  one engine per line; the file is watched
  wharf serve --host tcp://127.0.0.1:2380 nodes://…    clients connect to a port of this machine")]
pub(crate) struct Options {
    /// Where clients connect: unix:///PATH, or tcp://127.0.0.1:PORT (nothing but loopback: there is no authentication).
    /// May be given several times. [default: unix:///run/wharf/docker.sock]
    #[arg(long, short = 'H', value_name = "URL", env = "WHARF_HOST", value_delimiter = ',')]
    host: Vec<Endpoint>,

    /// How a container's node is chosen: spread, binpack or random.
    #[arg(long, default_value = "spread", value_parser = strategy)]
    strategy: Strategy,

    /// Where the manager keeps what must outlive it. [default: /var/lib/wharf, or ~/.local/share/wharf]
    #[arg(long, value_name = "DIR", env = "WHARF_DATA")]
    data: Option<PathBuf>,

    /// Where the engines are: nodes://ADDRESS:PORT,… or file://PATH. [default: the engine of this machine]
    #[arg(value_name = "DISCOVERY", env = "WHARF_DISCOVERY")]
    discovery: Option<String>,
}

fn strategy(name: &str) -> Result<Strategy, String> {
    Strategy::parse(name).ok_or_else(|| {
        let names: Vec<_> = Strategy::names().collect();
        format!("want one of {}", names.join(", "))
    })
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(serve(options))?;
    Ok(ExitCode::SUCCESS)
}

/// Every engine takes two connections, and every client one: as many files as the system lets us have.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let discovery = options.discovery.as_deref().unwrap_or("unix:///var/run/docker.sock");
    let discovery = Discovery::parse(discovery).with_context(|| format!("DISCOVERY {discovery}"))?;
    let data = options.data.unwrap_or_else(|| home("/var/lib/wharf", ".local/share/wharf"));
    let in_data = || format!("the data folder {}", data.display());
    let lock = Data::open(&data).with_context(in_data)?;
    let hosts = match options.host {
        hosts if hosts.is_empty() => vec![Endpoint::Unix(socket())],
        hosts => hosts,
    };
    // Listen only when all of the configuration is good.
    let mut listeners = Vec::new();
    for host in &hosts {
        listeners.push(Listener::bind(host).await?);
    }
    let stop = stop_on_signal()?;
    let identity = Identity {
        id: lock.fleet_id.clone(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        strategy: options.strategy.name().to_owned(),
    };
    let config = Config { discovery, policy: Policy::new(options.strategy), identity, data: data.clone() };
    let manager = Manager::start(config).with_context(in_data)?;
    let settled = tokio::select! {
        settled = tokio::time::timeout(SETTLE_WITHIN, manager.settled()) => settled.is_ok(),
        () = stop.cancelled() => return Ok(()),
    };
    let endpoints: Vec<_> = listeners.iter().filter_map(Listener::endpoint).collect();
    greet(&manager.nodes(), &endpoints, settled)?;
    manager.serve(listeners, stop).await;
    drop(lock);
    Ok(())
}

/// Tells what is served and how to use it.
fn greet(nodes: &[String], endpoints: &[Endpoint], settled: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let plural = if nodes.len() == 1 { "node" } else { "nodes" };
    writeln!(out, "Wharf {}: {} {plural}", wharf_manager::VERSION, nodes.len())?;
    for node in nodes.iter().take(20) {
        writeln!(out, "  {node}")?;
    }
    if nodes.len() > 20 {
        writeln!(out, "  … and {} more: docker info lists them", nodes.len() - 20)?;
    }
    if !settled {
        writeln!(out, "  (some have not answered yet; they join as soon as they do)")?;
    }
    for endpoint in endpoints {
        writeln!(out, "Serving the Docker API at {endpoint}")?;
    }
    if let Some(endpoint) = endpoints.first() {
        writeln!(
            out,
            "\nUse it:\n  export DOCKER_HOST={endpoint}\nor\n  docker context create wharf --docker host={endpoint}"
        )?;
        writeln!(out, "  docker context use wharf\nthen\n  docker info")?;
    }
    out.flush()?;
    Ok(())
}

/// Cancelled by the first SIGINT or SIGTERM.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("WHARF_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// `for_root` for root, else a folder below the user's home.
fn home(for_root: &str, for_users: &str) -> PathBuf {
    match std::env::home_dir() {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(for_users),
        _ => PathBuf::from(for_root),
    }
}

/// The socket that clients find by default.
fn socket() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !rustix::process::geteuid().is_root() => Path::new(&folder).join("wharf/docker.sock"),
        _ => PathBuf::from("/run/wharf/docker.sock"),
    }
}

/// The data folder of one manager: locked, so that two managers never share it.
struct Data {
    fleet_id: String,
    _lock: File,
}

impl Data {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| anyhow::anyhow!("another manager uses it; give this one another --data"))?;
        let path = folder.join("fleet-id");
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let known = known.trim();
        if !known.is_empty() {
            return Ok(Self { fleet_id: known.to_owned(), _lock: lock });
        }
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let fleet_id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written whole or not at all.
        let draft = folder.join("fleet-id.new");
        std::fs::write(&draft, &fleet_id)?;
        std::fs::rename(&draft, &path)?;
        Ok(Self { fleet_id, _lock: lock })
    }
}
