//! The agent's life: it joins, is told, answers for names, has the kernel wired, and reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use wharf_engine::Client;
use wharf_model::Pairing;
use wharf_protocol::{PROBED_PATH, Probe, Probed, REPORT_PATH, Report, State, Update};

use crate::{
    Config,
    credentials::{self, Credentials, ask},
    manager::Updates,
    names::{self, Server, Table},
    probe,
    wire::{Host, Wire},
    wiring::{Wanted, Wired, Wiring},
};

/// Between two attempts to reach the manager: first and longest.
const RETRY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];

/// A report is made this often, also when there is nothing new: it tells the clock.
const REPORT_EVERY: Duration = Duration::from_secs(20);

/// What was told last is written down this long after it was told: a burst of changes is written once.
const KEEP_AFTER: Duration = Duration::from_secs(1);

/// A certificate that cannot be renewed now is tried again after so long.
const RENEW_AGAIN: Duration = Duration::from_secs(600);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its data folder cannot be used.
    #[error("the data folder {folder}: {message}")]
    Data {
        /// Which.
        folder: String,
        /// Why not.
        message: String,
    },
    /// The host's network cannot be changed.
    #[error("{0}")]
    Host(String),
}

/// Runs an agent until it is told to stop. What it has made of the host stays as it is.
///
/// # Errors
/// See [`Error`]. That no manager is there is none: it is waited for.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let data =
        |error: std::io::Error| Error::Data { folder: config.data.display().to_string(), message: error.to_string() };
    std::fs::create_dir_all(&config.data).map_err(data)?;
    let host = Host { root: config.root.clone() };
    let (want, wanted) = watch::channel(Wanted::default());
    let (wire, wired) = watch::channel(Wired::default());
    Wiring::spawn(host, config.manager.ip(), &config.data, wanted, wire).map_err(Error::Host)?;
    let table = Arc::new(Table::new());
    let server = Server::start(Arc::clone(&table), names::Config::default());
    let mut agent = Agent {
        state: State::default(),
        batch: Vec::new(),
        unread: BTreeSet::new(),
        synced: 0,
        rewired: 0,
        table,
        server,
        want,
        wired,
        keep: None,
        config,
    };
    agent.recall();
    tokio::select! {
        never = agent.serve() => match never {},
        () = stop.cancelled() => Ok(()),
    }
}

/// Leaves the host as it was: devices, routes and rules of fleet networks are removed, whoever made them, and nothing else.
///
/// # Errors
/// [`Error::Host`], naming what stays.
pub async fn cleanup(root: Option<std::path::PathBuf>) -> Result<Vec<String>, Error> {
    let wire = Wire::new(Host { root }).map_err(|error| Error::Host(error.to_string()))?;
    let report = wire.cleanup().await;
    if report.problems.is_empty() {
        return Ok(report.done);
    }
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    Err(Error::Host(problems.join("; ")))
}

struct Agent {
    config: Config,
    /// All that was told, up to the last `Synced`.
    state: State,
    /// What was told since.
    batch: Vec<Update>,
    unread: BTreeSet<u32>,
    /// The number of the last `Synced`, and of the last one that concerned the kernel.
    synced: u64,
    rewired: u64,
    table: Arc<Table>,
    server: Server,
    want: watch::Sender<Wanted>,
    wired: watch::Receiver<Wired>,
    /// When the state is to be written down.
    keep: Option<Instant>,
}

impl Agent {
    async fn serve(&mut self) -> std::convert::Infallible {
        let mut retry = RETRY[0];
        let mut told = String::new();
        loop {
            let began = Instant::now();
            let error = match Credentials::have(&self.config).await {
                Ok(credentials) => self.session(credentials).await,
                Err(error) => error.to_string(),
            };
            if error != told {
                tracing::warn!("the manager at {}: {error}", self.config.manager);
                told = error;
            }
            if began.elapsed() > RETRY[1] {
                retry = RETRY[0];
                told.clear();
            }
            self.idle(retry).await;
            retry = (retry * 2).min(RETRY[1]);
        }
    }

    /// Waits, and keeps what was told in force meanwhile.
    async fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while tokio::time::timeout_at(until, self.wired.changed()).await.is_ok() {
            self.set_resolvers();
        }
        self.keep_if_due();
    }

    /// Follows a manager; gives the reason why it cannot any longer.
    async fn session(&mut self, mut credentials: Credentials) -> String {
        let mut client = match credentials.client(&self.config) {
            Ok(client) => client,
            Err(error) => return error.to_string(),
        };
        let mut updates = match Updates::watch(&client).await {
            Ok(updates) => updates,
            Err(error) => return error,
        };
        tracing::info!("connected to the manager at {}", self.config.manager);
        self.batch.clear();
        let mut report = tokio::time::interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renew = Instant::now() + until(credentials.renew_at());
        loop {
            let keep = self.keep;
            let due = tokio::select! {
                update = updates.next() => match update {
                    Ok(update) => self.update(update, &client),
                    Err(error) => return error,
                },
                changed = self.wired.changed() => {
                    if changed.is_err() {
                        return "the wiring has ended".to_owned();
                    }
                    self.set_resolvers();
                    true
                }
                _ = report.tick() => true,
                () = tokio::time::sleep_until(keep.unwrap_or_else(Instant::now)), if keep.is_some() => {
                    self.keep_if_due();
                    false
                }
                () = tokio::time::sleep_until(renew) => {
                    match credentials.renew(&self.config).await {
                        Ok(next) => {
                            credentials = next;
                            match credentials.client(&self.config) {
                                Ok(next) => client = next,
                                Err(error) => return error.to_string(),
                            }
                            renew = Instant::now() + until(credentials.renew_at());
                        }
                        Err(error) => {
                            tracing::warn!("the certificate cannot be renewed now: {error}");
                            renew = Instant::now() + RENEW_AGAIN;
                        }
                    }
                    false
                }
            };
            if due && let Err(error) = self.report(&client).await {
                return error.to_string();
            }
        }
    }

    /// Takes an update in. Whether there is something to report.
    fn update(&mut self, update: Update, client: &Client) -> bool {
        match update {
            Update::Alive => false,
            Update::Probe(probe) => {
                self.probe(probe, client.clone());
                false
            }
            Update::Unread(nodes) => {
                self.unread = nodes;
                false
            }
            Update::Synced(number) => {
                self.synced = number;
                let batch = std::mem::take(&mut self.batch);
                self.commit(batch);
                self.keep = self.keep.or_else(|| Some(Instant::now() + KEEP_AFTER));
                true
            }
            update => {
                self.batch.push(update);
                false
            }
        }
    }

    /// Makes what was told together the state.
    fn commit(&mut self, batch: Vec<Update>) {
        let changes = if batch.first() == Some(&Update::Reset) {
            let mut next = State::default();
            batch.into_iter().for_each(|update| next.apply(update));
            next.keep_unread(&self.state, &self.unread);
            self.unread.clear();
            let changes = self.state.difference(&next);
            self.state = next;
            changes
        } else {
            batch.iter().cloned().for_each(|update| self.state.apply(update));
            batch
        };
        let mut wires = false;
        let now = Instant::now();
        for change in &changes {
            wires |= !matches!(change, Update::Container(..) | Update::ContainerGone(_));
            self.name(change, now);
        }
        let neighbours = neighbours(&self.state);
        if wires || neighbours != self.want.borrow().neighbours || self.rewired == 0 {
            self.rewired = self.synced;
            self.listen();
            let State { me, peers, networks, .. } = &self.state;
            let containers = BTreeMap::new();
            let state = State { me: me.clone(), peers: peers.clone(), networks: networks.clone(), containers };
            self.want.send_replace(Wanted { number: self.synced, state: Some(state), neighbours });
        }
    }

    fn name(&self, change: &Update, now: Instant) {
        match change {
            Update::Network(id, network) => self.table.put_network(names::Network {
                id: names::NetworkId(id.as_str().into()),
                name: network.name.as_str().into(),
                ranges: [Some(network.range.into()), network.range6.map(IpNet::from)].into_iter().flatten().collect(),
            }),
            Update::NetworkGone(id) => self.table.drop_network(&names::NetworkId(id.as_str().into())),
            Update::Container(id, container) => self.table.put_container(self.named(id, container), now),
            Update::ContainerGone(id) => self.table.drop_container(id, now),
            _ => {}
        }
    }

    fn named(&self, id: &str, container: &wharf_protocol::Container) -> names::Container {
        let endpoint = |endpoint: &wharf_protocol::Endpoint| {
            let six = self.state.networks.get(&endpoint.network).and_then(|network| six(network, endpoint));
            names::Endpoint {
                network: names::NetworkId(endpoint.network.as_str().into()),
                addresses: [Some(endpoint.address), six.map(IpAddr::V6)].into_iter().flatten().collect(),
                aliases: endpoint.aliases.iter().map(|alias| alias.as_str().into()).collect(),
                links: endpoint
                    .links
                    .iter()
                    .map(|(target, alias)| (target.as_str().into(), alias.as_str().into()))
                    .collect(),
            }
        };
        names::Container {
            id: id.into(),
            name: container.name.as_str().into(),
            up: container.up,
            local_addresses: container.local.clone(),
            upstreams: container.dns.clone(),
            endpoints: container.endpoints.iter().map(endpoint).collect(),
        }
    }

    /// Answers at the gateways of this node's networks, and where its other containers ask.
    fn listen(&self) {
        let gateways = self.state.networks.values().map(|network| IpAddr::V4(network.gateway));
        let others = self.state.me.iter().flat_map(|me| me.dns_addresses.iter().copied());
        self.server.listen_on(gateways.chain(others).collect());
    }

    fn set_resolvers(&self) {
        if let Some(facts) = &self.wired.borrow().facts {
            self.server.set_upstreams(facts.resolvers.clone());
        }
    }

    async fn report(&mut self, client: &Client) -> Result<(), credentials::Error> {
        let wired = self.wired.borrow_and_update().clone();
        let Some(facts) = wired.facts else { return Ok(()) };
        let applied = if wired.number >= self.rewired { self.synced } else { wired.number };
        let names =
            self.server.problems().into_iter().map(|(address, problem)| format!("names at {address}: {problem}"));
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let report = Report {
            applied,
            version: self.config.version.clone(),
            underlay: Some(facts.underlay),
            underlay_mtu: facts.underlay_mtu,
            key: wired.key,
            resolvers: facts.resolvers,
            routes: facts.routes,
            waiting: wired.waiting,
            problems: wired.problems.into_iter().chain(names).collect(),
            clock: u64::try_from(clock.as_millis()).unwrap_or(u64::MAX),
        };
        ask::<serde_json::Value>(client, REPORT_PATH, &report).await.map(drop)
    }

    fn probe(&self, probe: Probe, client: Client) {
        let mtu = self.wired.borrow().facts.as_ref().map_or(1500, |facts| facts.underlay_mtu);
        tokio::spawn(async move {
            let results = probe::probe(&probe.nodes, mtu).await;
            let probed = Probed { id: probe.id, results };
            if let Err(error) = ask::<serde_json::Value>(&client, PROBED_PATH, &probed).await {
                tracing::warn!("what came of a probe cannot be told: {error}");
            }
        });
    }

    // === memory ===

    /// What was told before the last end: it is in force until a manager says otherwise.
    fn recall(&mut self) {
        let known = std::fs::read(path(&self.config.data)).ok();
        let Some(state) = known.and_then(|text| serde_json::from_slice::<State>(&text).ok()) else { return };
        tracing::info!(
            "known from before: {} networks, {} containers, {} other nodes",
            state.networks.len(),
            state.containers.len(),
            state.peers.len()
        );
        let changes = self.state.difference(&state);
        // What the last `Synced` was is not known; whatever comes is newer.
        self.commit(changes);
    }

    fn keep_if_due(&mut self) {
        if self.keep.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.keep = None;
        let kept = serde_json::to_vec(&self.state).map_err(|error| error.to_string());
        let kept = kept
            .and_then(|text| credentials::write(&path(&self.config.data), &text).map_err(|error| error.to_string()));
        if let Err(error) = kept {
            tracing::warn!("what was told is not written down: {error}");
        }
    }
}

fn path(data: &Path) -> std::path::PathBuf {
    data.join("state.json")
}

fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// The IPv6 addresses of other nodes' containers, by network: all that is wired of single containers.
fn neighbours(state: &State) -> BTreeMap<String, BTreeSet<Ipv6Addr>> {
    let mut neighbours: BTreeMap<String, BTreeSet<Ipv6Addr>> = BTreeMap::new();
    let (Some(me), true) = (&state.me, state.networks.values().any(|network| network.range6.is_some())) else {
        return neighbours;
    };
    for container in state.containers.values().filter(|container| container.node != me.node && container.up) {
        for endpoint in &container.endpoints {
            if let Some(address) = state.networks.get(&endpoint.network).and_then(|network| six(network, endpoint)) {
                neighbours.entry(endpoint.network.clone()).or_default().insert(address);
            }
        }
    }
    neighbours
}

/// The IPv6 address of a container on a network that has such.
fn six(network: &wharf_protocol::Network, endpoint: &wharf_protocol::Endpoint) -> Option<Ipv6Addr> {
    let IpAddr::V4(address) = endpoint.address else { return None };
    let pairing = Pairing::new(network.range, network.range6?)?;
    network.range.contains(&address).then(|| pairing.six(address))
}
