//! A manager's process: its data folder, its listeners, its signals, its first words.

use std::{
    fs::File,
    io::{IsTerminal, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wharf_engine::TlsClient;
use wharf_manager::{Access, AgentSettings, Config, Identity, Listener, Manager, Naming};
use wharf_model::Endpoint;
use wharf_plan::{Policy, addresses::Pool};
use wharf_store::discovery::Discovery;

/// Nodes have this long to answer before their state is printed; those that need longer come later.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// What a manager is to do, whatever the command that started it was called.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<Endpoint>,
    pub(crate) access: Access,
    pub(crate) engine_tls: Option<TlsClient>,
    pub(crate) policy: Policy,
    pub(crate) naming: Naming,
    pub(crate) data: Option<PathBuf>,
    pub(crate) discovery: String,
    /// Whether nodes have agents, and where they find the manager, if that is said.
    pub(crate) agents: Option<Option<SocketAddr>>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) default_network: Option<String>,
    /// What is logged, unless `WHARF_LOG` says it.
    pub(crate) log: &'static str,
}

/// Runs a manager until SIGINT or SIGTERM.
///
/// # Errors
/// If the settings are not good, or a listener cannot be had.
pub(crate) fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    log_to_stderr(settings.log);
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(serve(settings))?;
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

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let Settings { hosts, access, engine_tls, policy, naming, data, discovery, agents, .. } = settings;
    let discovery = Discovery::parse(&discovery).with_context(|| format!("DISCOVERY {discovery}"))?;
    let data = data.unwrap_or_else(|| home("/var/lib/wharf", ".local/share/wharf"));
    let in_data = || format!("the data folder {}", data.display());
    let lock = Data::open(&data).with_context(in_data)?;
    // Listen only when all of the configuration is good.
    let mut listeners = Vec::new();
    for host in &hosts {
        listeners.push(Listener::bind(host, &access).await?);
    }
    let stop = stop_on_signal()?;
    let identity = Identity {
        id: lock.fleet_id.clone(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    // Of the program as it was started, also where its file has been replaced since.
    let agents = agents.map(|advertise| AgentSettings { advertise, program: PathBuf::from("/proc/self/exe") });
    let config = Config {
        discovery,
        engine_tls,
        policy,
        naming,
        identity,
        data: data.clone(),
        agents,
        pools: settings.pools,
        default_network: settings.default_network,
        reaping: wharf_manager::Reaping::default(),
    };
    let manager = Manager::start(config).await.with_context(in_data)?;
    let settled = tokio::select! {
        settled = tokio::time::timeout(SETTLE_WITHIN, manager.settled()) => settled.is_ok(),
        () = stop.cancelled() => return Ok(()),
    };
    let endpoints: Vec<_> = listeners.iter().filter_map(Listener::endpoint).collect();
    greet(&manager.nodes(), &endpoints, settled, manager.agent_port())?;
    manager.serve(listeners, stop).await;
    drop(lock);
    Ok(())
}

/// Tells what is served and how to use it.
fn greet(nodes: &[String], endpoints: &[Endpoint], settled: bool, agents: Option<u16>) -> anyhow::Result<()> {
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
    if let Some(port) = agents {
        writeln!(
            out,
            "\nNodes get their agents by themselves, which reach this manager at TCP port {port}. By hand, on a node:\n  \
             wharf agent --join tcp://THIS-HOST:{port}        with WHARF_TOKEN from `wharf node token`"
        )?;
    }
    out.flush()?;
    Ok(())
}

/// Cancelled by the first SIGINT or SIGTERM.
pub(crate) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
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

pub(crate) fn log_to_stderr(level: &str) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("WHARF_LOG")
        .with_default_directive(level.parse().unwrap_or_else(|_| tracing::level_filters::LevelFilter::INFO.into()))
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
pub(crate) fn socket() -> PathBuf {
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
