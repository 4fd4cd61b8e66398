//! The manager as a whole: built of its configuration, run until it is told to stop.

use std::{path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;
use wharf_engine::TlsClient;
use wharf_plan::Policy;
use wharf_store::discovery::Discovery;

use crate::{
    Naming,
    fleet::{self, Fleet, LabelFile, Orphans},
    front::{self, App, BuildKits, Execs, Listener, Transfers},
    view::info::NodeLines,
};

/// What a manager is to do.
#[derive(Debug)]
pub struct Config {
    /// Where its engines are found.
    pub discovery: Discovery,
    /// How engines on the network are dialled; `None` for plain TCP.
    pub engine_tls: Option<TlsClient>,
    /// How nodes are chosen.
    pub policy: Policy,
    /// How containers are called in lists.
    pub naming: Naming,
    /// Who it is.
    pub identity: Identity,
    /// A folder of its own, for what must outlive it.
    pub data: PathBuf,
}

/// What a manager says of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The fleet's id: 64 hexadecimal digits or any other text that stays the same.
    pub id: String,
    /// The manager's host.
    pub hostname: String,
}

/// A manager that watches its engines.
#[derive(Debug)]
pub struct Manager {
    app: App,
    supervisor: tokio::task::JoinHandle<()>,
}

impl Manager {
    /// Starts to watch the engines; nothing is served yet.
    ///
    /// # Errors
    /// If the data folder cannot be used.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let orphans = Orphans::open(&config.data.join("given-up"))?;
        let labels = LabelFile::open(config.data.join("node-labels.json"))?;
        let fleet = Fleet::start(config.policy, config.naming, labels.known());
        let watch = config.discovery.watch();
        let supervisor = tokio::spawn(fleet::supervise(fleet.clone(), watch, orphans.clone(), config.engine_tls));
        let identity = Arc::new(config.identity);
        let app = App {
            fleet,
            labels,
            orphans,
            identity,
            execs: Execs::default(),
            transfers: Transfers::default(),
            buildkits: BuildKits::default(),
            node_lines: NodeLines::default(),
        };
        Ok(Self { app, supervisor })
    }

    /// Waits until every node that discovery names has been reached, or has failed to be.
    pub async fn settled(&self) {
        let known = |node: &Arc<wharf_model::Node>| node.is_healthy() || node.error.is_some();
        self.app.fleet.wait_for(|snapshot| snapshot.nodes().count() > 0 && snapshot.nodes().all(known)).await;
    }

    /// The nodes and how they are, a line each: for the terminal.
    pub fn nodes(&self) -> Vec<String> {
        let line = |node: &Arc<wharf_model::Node>| match (&node.error, &node.engine) {
            (None, Some(engine)) => {
                let containers = node.containers.len();
                format!("{} at {}: Docker {}, {containers} containers", node.name, node.endpoint, engine.version)
            }
            (error, _) => {
                let error = error.as_deref().unwrap_or("not reached yet");
                format!("{} at {}: {}: {error}", node.name, node.endpoint, node.health.name())
            }
        };
        self.app.fleet.snapshot().nodes().map(line).collect()
    }

    /// Serves the Docker API on these listeners until told to stop; requests under way may end.
    pub async fn serve(self, listeners: Vec<Listener>, stop: CancellationToken) {
        front::serve(self.app, listeners, stop).await;
        self.supervisor.abort();
    }
}
