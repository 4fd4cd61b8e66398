//! The manager as a whole: built of its configuration, run until it is told to stop.

use std::{path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;
use wharf_engine::TlsClient;
use wharf_plan::{Policy, addresses::Pool};
use wharf_store::{discovery::Discovery, records::File};

use crate::{
    Error, Naming,
    agents::{self, AgentSettings, Agents},
    fleet::{self, Fleet, LabelFile, Orphans},
    front::{self, App, BuildKits, Execs, Listener, Transfers},
    networks::{self, Networks},
    records::Records,
    view::{images::Meanings, info::NodeLines},
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
    /// The agents of its nodes; `None` to have none, and networks that are each one node's.
    pub agents: Option<AgentSettings>,
    /// What ranges of networks are made of.
    pub pools: Vec<Pool>,
    /// The fleet network of containers that name none; `None` for Docker's bridge.
    pub default_network: Option<String>,
    /// How soon what no container needs of networks is taken back.
    pub reaping: networks::Reaping,
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
    agents: agents::Running,
    reaping: networks::Reaping,
}

impl Manager {
    /// Starts to watch the engines; nothing is served yet.
    ///
    /// # Errors
    /// If the data folder cannot be used, or the agents' port is taken.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let unusable = |error: std::io::Error| Error::internal(error.to_string());
        let orphans = Orphans::open(&config.data.join("given-up")).map_err(unusable)?;
        let labels = LabelFile::open(config.data.join("node-labels.json")).map_err(unusable)?;
        let records = Records::new(Arc::new(File::open(&config.data.join("store.redb")).await?));
        let fleet = Fleet::start(config.policy, config.naming, labels.known());
        let agents = match config.agents {
            Some(settings) => {
                Agents::start(&fleet, &records, settings, config.pools.clone(), &config.identity.id).await?
            }
            None => Agents::off(),
        };
        // Agents are served only when the networks are known: what they are not told of they take down.
        let networks =
            Networks::open(fleet.clone(), agents.agents.clone(), records.clone(), config.pools, &config.identity.id)
                .await?;
        let watch = config.discovery.watch();
        let supervise = fleet::supervise(fleet.clone(), records, watch, orphans.clone(), config.engine_tls);
        let supervisor = tokio::spawn(supervise);
        let identity = Arc::new(config.identity);
        let app = App {
            fleet,
            labels,
            orphans,
            identity,
            execs: Execs::default(),
            transfers: Transfers::default(),
            buildkits: BuildKits::default(),
            meanings: Meanings::default(),
            node_lines: NodeLines::default(),
            networks,
            agents: agents.agents.clone(),
            default_network: config.default_network.map(Into::into),
        };
        Ok(Self { app, supervisor, agents, reaping: config.reaping })
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
        self.agents.spawn(stop.clone());
        let reaper = tokio::spawn(networks::reap(self.app.networks.clone(), self.reaping));
        front::serve(self.app, listeners, stop).await;
        reaper.abort();
        self.supervisor.abort();
    }

    /// The port that agents connect to; `None` without agents.
    pub fn agent_port(&self) -> Option<u16> {
        self.app.agents.port()
    }
}
