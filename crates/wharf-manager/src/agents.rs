//! The agents of the fleet's nodes: they are brought to their nodes, join, are told what concerns them, and report.

mod hub;
mod listen;
mod push;
mod tokens;
mod view;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;
use wharf_authority::token::JoinToken;
use wharf_model::{ContainerId, NodeId};
use wharf_plan::addresses::Pool;
use wharf_protocol::{Probe, ProbeResult, Probed};

pub(crate) use self::tokens::SHOWN_FOR;
use self::{
    hub::{Hub, Message, Progress},
    push::push,
};
use crate::{Error, fleet::Fleet, records::Records};

/// Messages that may wait for the hub.
const QUEUE: usize = 1024;

/// Whether and how a manager has agents on its nodes.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// The address and port that agents find the manager at; `None` for the port 2378, or another where that is taken, of the
    /// address that leads to each node.
    pub advertise: Option<SocketAddr>,
    /// The program that agents are made of: Wharf itself, linked statically.
    pub program: PathBuf,
}

/// The agents. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Agents(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    fleet: Fleet,
    records: Records,
    hub: mpsc::Sender<Message>,
    progress: Arc<watch::Sender<Progress>>,
    tokens: tokens::Tokens,
    settings: AgentSettings,
    /// Where agents connect.
    port: u16,
    /// Those who wait for what came of a probe.
    probes: Mutex<std::collections::HashMap<u64, oneshot::Sender<Probed>>>,
    fleet_id: String,
    pools: Vec<Pool>,
    /// The connection on which each agent watches: the newest one, where an older one has not been found to be dead yet.
    watches: std::sync::Mutex<std::collections::BTreeMap<NodeId, u64>>,
    /// The number of the next such connection.
    next_watch: AtomicU64,
}

/// What runs for the agents, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) agents: Agents,
    listener: Option<(TcpListener, Arc<rustls::ServerConfig>)>,
}

impl Agents {
    /// No agents: networks are each one node's.
    pub(crate) fn off() -> Running {
        Running { agents: Self(None), listener: None }
    }

    /// Prepares for agents; nothing is served yet.
    ///
    /// # Errors
    /// If the port is taken, or the store cannot be read or written.
    pub(crate) async fn start(
        fleet: &Fleet,
        records: &Records,
        settings: AgentSettings,
        pools: Vec<Pool>,
        fleet_id: &str,
    ) -> Result<Running, Error> {
        let tokens = tokens::Tokens::open(records).await?;
        let listener = listen::bind(records, settings.advertise).await?;
        let port = listener.local_addr().map_err(|error| Error::internal(error.to_string()))?.port();
        let tls = tokens.server_config()?;
        let (hub, messages) = mpsc::channel(QUEUE);
        let progress = Arc::new(watch::channel(Progress::default()).0);
        tokio::spawn(Hub::new(pools.clone(), Arc::clone(&progress)).run(fleet.snapshots(), messages));
        listen::recall(fleet, records).await?;
        let inner = Inner {
            fleet: fleet.clone(),
            records: records.clone(),
            hub,
            progress,
            tokens,
            settings,
            port,
            probes: Mutex::default(),
            fleet_id: fleet_id.to_owned(),
            pools,
            watches: std::sync::Mutex::default(),
            next_watch: AtomicU64::new(0),
        };
        Ok(Running { agents: Self(Some(Arc::new(inner))), listener: Some((listener, tls)) })
    }

    /// Whether nodes have agents.
    pub(crate) fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until the agents of these nodes, as far as they are connected, have made their hosts agree with the state as it
    /// is now. False if they have not in this time.
    pub(crate) async fn settled(&self, nodes: BTreeSet<NodeId>, within: Duration) -> bool {
        let Some(inner) = &self.0 else { return true };
        let version = inner.fleet.snapshot().version;
        let mut progress = inner.progress.subscribe();
        let settled = async {
            // It ends with an error only together with the hub.
            progress.wait_for(|progress| progress.followed >= version).await.ok();
            let wanted: Vec<_> = {
                let progress = progress.borrow();
                let told = |node: &NodeId| progress.agents.get(node).map(|told| (*node, told.sent));
                nodes.iter().filter_map(told).collect()
            };
            let agrees = |progress: &Progress| {
                let applied =
                    |(node, sent): &(NodeId, u64)| progress.agents.get(node).is_none_or(|told| told.applied >= *sent);
                wanted.iter().all(applied)
            };
            progress.wait_for(agrees).await.ok();
        };
        tokio::time::timeout(within, settled).await.is_ok()
    }

    /// Waits until all nodes that answer have an agent, or for so long.
    pub(crate) async fn reported(&self, within: Duration) {
        let Some(inner) = &self.0 else { return };
        let all = inner.fleet.wait_for(|snapshot| {
            let mut healthy = snapshot.nodes().filter(|node| node.is_healthy()).peekable();
            healthy.peek().is_some() && healthy.all(|node| node.agent.is_some())
        });
        tokio::time::timeout(within, all).await.ok();
    }

    /// Says that a container is about to run: others are to know its name before it does. False comes after a true one if it
    /// does not run after all.
    pub(crate) async fn starting(&self, container: ContainerId, is: bool) {
        let Some(inner) = &self.0 else { return };
        let (done, wait) = oneshot::channel();
        let message = if is { Message::Starting(container, done) } else { Message::NotStarting(container) };
        // It fails only when the manager ends. What is waited for is in the numbers that agents have been sent by then.
        if inner.hub.send(message).await.is_ok() && is {
            wait.await.ok();
        }
    }

    /// Has a node's agent try the way to others.
    ///
    /// # Errors
    /// [`wharf_model::Class::Unavailable`] if the agent is not connected, or does not answer in this time.
    pub(crate) async fn probe(
        &self,
        node: NodeId,
        others: Vec<u32>,
        within: Duration,
    ) -> Result<Vec<ProbeResult>, Error> {
        let none = || Error::unavailable("its agent is not connected");
        let inner = self.0.as_ref().ok_or_else(none)?;
        if !inner.progress.borrow().agents.contains_key(&node) {
            return Err(none());
        }
        let mut id = [0; 8];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::internal(error.to_string()))?;
        let id = u64::from_ne_bytes(id);
        let snapshot = inner.fleet.snapshot();
        let peer = |number: u32| {
            let node = snapshot.node(NodeId(number))?;
            Some((number, view::peer(node, &inner.pools)?))
        };
        let nodes = others.into_iter().filter_map(peer).collect();
        let (answer, wait) = oneshot::channel();
        inner.probes.lock().await.insert(id, answer);
        inner.hub.send(Message::Probe(node, Probe { id, nodes })).await.map_err(|_| none())?;
        let probed = tokio::time::timeout(within, wait).await;
        inner.probes.lock().await.remove(&id);
        let late = || Error::unavailable(format!("its agent did not answer within {within:?}"));
        Ok(probed.map_err(|_| late())?.map_err(|_| none())?.results)
    }

    /// A new token with which hosts may join, and where.
    ///
    /// # Errors
    /// [`wharf_model::Class::Unsupported`] without agents; what the store says.
    pub(crate) async fn issue(&self) -> Result<(JoinToken, u16), Error> {
        let off = || Error::new(wharf_model::Class::Unsupported, "this manager has no agents (--no-agents)");
        let inner = self.0.as_ref().ok_or_else(off)?;
        Ok((inner.tokens.issue(&inner.records).await?, inner.port))
    }

    /// The port that agents connect to.
    pub(crate) fn port(&self) -> Option<u16> {
        self.0.as_ref().map(|inner| inner.port)
    }
}

impl Running {
    /// Serves agents, and brings them to nodes that have none, until told to stop.
    pub(crate) fn spawn(self, stop: CancellationToken) {
        if let (Some(inner), Some((listener, tls))) = (self.agents.0, self.listener) {
            tokio::spawn(listen::serve(Arc::clone(&inner), listener, tls, stop.clone()));
            tokio::spawn(async move {
                tokio::select! {
                    () = push(inner) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}
