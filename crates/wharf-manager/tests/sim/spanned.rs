//! A fleet of simulated engines with simulated agents on them, and a manager that may be killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch};
use wharf_engine::Error;
use wharf_manager::{AgentSettings, Manager, Reaping};
use wharf_plan::addresses::{Pool, default_pools};
use wharf_sim::State;

use crate::{
    agent::{Agent, Conduct},
    world::{Engines, Front, WITHIN, comes_true, eventually, serve},
};

/// The fleet. Its engines outlive its manager.
pub(crate) struct Fleet {
    pub(crate) engines: Engines,
    pub(crate) agents: Vec<Agent>,
    running: Option<(Front, Runtime)>,
    port: watch::Sender<u16>,
    data: PathBuf,
    pools: Vec<Pool>,
    idle: Duration,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// So many nodes, once each has its agent.
    pub(crate) async fn start(seed: u64, nodes: usize, conduct: Conduct) -> Self {
        Self::with(seed, nodes, conduct, default_pools(), Reaping::default().idle).await
    }

    /// The same; networks get their ranges out of these pools, and nodes lose parts that are idle for so long.
    pub(crate) async fn with(seed: u64, nodes: usize, conduct: Conduct, pools: Vec<Pool>, idle: Duration) -> Self {
        let engines = Engines::alike(seed, nodes, 0).await;
        let (port, follow) = watch::channel(0);
        let life = |engine| Agent::start(std::sync::Arc::clone(engine), follow.clone(), conduct.clone());
        let agents = engines.sim.engines().iter().map(life).collect();
        let folder = engines.folder();
        let data = folder.path().to_owned();
        std::fs::write(data.join("program"), "the program").unwrap();
        let mut fleet = Self { engines, agents, running: None, port, data, pools, idle, _folder: folder };
        fleet.serve().await;
        eventually("every agent is told", async || fleet.agents.iter().all(|agent| agent.known().synced > 0)).await;
        fleet
    }

    /// Starts a manager where there is none.
    pub(crate) async fn serve(&mut self) {
        let mut config = self.engines.config(&self.data);
        let advertise = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.agents = Some(AgentSettings { advertise, program: self.data.join("program") });
        config.pools = self.pools.clone();
        // What nobody needs is taken back while others want it.
        config.reaping = Reaping { look_every: Duration::from_millis(100), idle: self.idle };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (data, folder) = (self.data.clone(), self.engines.folder());
        let started = runtime.spawn(async move {
            let manager = Manager::start(config).await.unwrap();
            let port = manager.agent_port().unwrap();
            let (client, stop) = serve(manager, &data).await;
            (Front { client, stop, _folder: folder }, port)
        });
        let (front, port) = started.await.unwrap();
        self.running = Some((front, runtime));
        self.port.send_replace(port);
    }

    /// The manager ends at once, with all that it was about to do.
    pub(crate) async fn kill(&mut self) {
        if let Some((front, runtime)) = self.running.take() {
            // Its tasks are dropped where they are; cancelling them would let them end in order.
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(WITHIN)).await.unwrap();
            drop(front);
        }
    }

    pub(crate) fn front(&self) -> &Front {
        &self.running.as_ref().unwrap().0
    }

    // === what clients do ===

    pub(crate) async fn network(&self, name: &str, more: Value) -> Result<String, Error> {
        let mut body = json!({ "Name": name });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.front().ask(Method::POST, "/networks/create", body).await?;
        Ok(made["Id"].as_str().unwrap().to_owned())
    }

    /// A container on a network, of the node that is named, if one is.
    pub(crate) async fn container(&self, name: &str, network: &str, node: Option<usize>) -> Result<String, Error> {
        self.container_with(name, network, node, json!({ "Aliases": [format!("{name}-alias")] })).await
    }

    /// The same, with an endpoint like this.
    pub(crate) async fn container_with(
        &self,
        name: &str,
        network: &str,
        node: Option<usize>,
        endpoint: Value,
    ) -> Result<String, Error> {
        let env: Vec<_> = node.iter().map(|node| format!("constraint:node==sim-{}", node + 1)).collect();
        let more = json!({
            "Env": env, "HostConfig": { "NetworkMode": network },
            "NetworkingConfig": { "EndpointsConfig": { network: endpoint } },
        });
        self.front().create(name, more).await
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Error> {
        self.post(&format!("/containers/{id}/start"), Value::Null).await
    }

    pub(crate) async fn connect(&self, network: &str, container: &str, endpoint: Value) -> Result<(), Error> {
        let body = json!({ "Container": container, "EndpointConfig": endpoint });
        self.post(&format!("/networks/{network}/connect"), body).await
    }

    pub(crate) async fn disconnect(&self, network: &str, container: &str) -> Result<(), Error> {
        self.post(&format!("/networks/{network}/disconnect"), json!({ "Container": container })).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<(), Error> {
        self.front().ask(Method::POST, path, body).await.map(drop)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Error> {
        self.front().ask(Method::DELETE, path, Value::Null).await.map(drop)
    }

    // === what is to be ===

    /// The parts of fleet networks that an engine has: names, and the networks' ids.
    pub(crate) fn parts(&self, node: usize) -> BTreeMap<String, String> {
        let networks = self.engines.sim.engines()[node].networks().into_iter();
        let part =
            |(name, network): (String, Value)| Some((name, network["Labels"]["wharf.network"].as_str()?.to_owned()));
        networks.filter_map(part).collect()
    }

    /// What every agent should know by name, as the engines have it: peers, networks, and containers with the addresses that
    /// they have on them.
    pub(crate) fn wanted(&self) -> Vec<Summary> {
        let nodes = 0..self.agents.len();
        let parts: Vec<_> = nodes.clone().map(|node| self.parts(node)).collect();
        let containers: Vec<_> = nodes.clone().map(|node| self.containers(node)).collect();
        let wanted = |node: usize| {
            let mut summary = Summary { networks: parts[node].keys().cloned().collect(), ..Summary::default() };
            for other in nodes.clone() {
                if other != node && parts[other].keys().any(|name| parts[node].contains_key(name)) {
                    summary.peers.insert(format!("sim-{}", other + 1));
                }
                let seen = containers[other]
                    .iter()
                    .filter(|(_, on)| other == node || on.keys().any(|name| parts[node].contains_key(name)));
                let states = self.engines.sim.engines()[other].containers();
                let up = |name: &String| matches!(states.get(name), Some(State::Running | State::Paused));
                let seen = seen.map(|(name, on)| (name.clone(), (up(name), on.values().copied().collect())));
                summary.containers.extend(seen);
            }
            summary
        };
        nodes.clone().map(wanted).collect()
    }

    /// An engine's containers, and the addresses that they have on fleet networks.
    pub(crate) fn containers(&self, node: usize) -> BTreeMap<String, BTreeMap<String, Ipv4Addr>> {
        let (engine, parts) = (&self.engines.sim.engines()[node], self.parts(node));
        let names = engine.containers().into_keys().filter(|name| name != "wharf-agent");
        let on = |name: &String| {
            let on = engine.addresses(name).into_iter();
            on.filter(|(network, _)| parts.contains_key(network)).collect()
        };
        names.map(|name| (name.clone(), on(&name))).collect()
    }

    /// Waits until every agent knows what it should, no more and no less; and sees that a new watch is told the same.
    pub(crate) async fn agrees(&self) {
        let now = || -> Vec<_> { self.agents.iter().map(|agent| Summary::of(&agent.known().state)).collect() };
        if !comes_true(async || now() == self.wanted()).await {
            let (now, wanted) = (now(), self.wanted());
            let node = now.iter().zip(&wanted).position(|(now, wanted)| now != wanted);
            let known = node.map(|node| (&now[node], &wanted[node]));
            panic!("node {node:?} does not know what it should within {WITHIN:?}: {known:?}");
        }
        let before: Vec<_> = self.agents.iter().map(|agent| agent.known().clone()).collect();
        self.agents.iter().for_each(|agent| agent.behave(|conduct| conduct.session += 1));
        for (node, (agent, before)) in self.agents.iter().zip(before).enumerate() {
            eventually("a new watch is told", async || agent.known().resets > before.resets).await;
            let fresh = agent.known().state.clone();
            let differ = before.state.difference(&fresh);
            assert!(
                differ.is_empty(),
                "node {node}: a new watch is told otherwise: {differ:?}, before {:?}",
                before.state
            );
        }
    }

    /// The blocks of networks as their members' agents know them: by network, block and owner.
    pub(crate) fn slices(&self) -> BTreeSet<(String, String, u32)> {
        let mut all = BTreeSet::new();
        for agent in &self.agents {
            for network in agent.known().state.networks.values() {
                all.extend(network.slices.iter().map(|(slice, node)| (network.name.clone(), slice.to_string(), *node)));
            }
        }
        all
    }

    /// Sees that no address is had twice, and each is in a block of its node or told as its own.
    pub(crate) fn check_addresses(&self) {
        let slices = self.slices();
        let mut holders: BTreeMap<(String, Ipv4Addr), String> = BTreeMap::new();
        for node in 0..self.agents.len() {
            let number = self.agents[node].known().state.me.as_ref().unwrap().node;
            for (container, on) in self.containers(node) {
                for (network, address) in on {
                    let at = slices.iter().any(|(name, slice, owner)| {
                        let slice: ipnet::Ipv4Net = slice.parse().unwrap();
                        *name == network && *owner == number && slice.contains(&address)
                    });
                    assert!(at, "{container} on node {number} has {address} of {network}, which no route leads to");
                    let other = holders.insert((network.clone(), address), container.clone());
                    assert!(other.is_none(), "{container} and {other:?} both have {address} of {network}");
                }
            }
        }
        let blocks: Vec<(&String, ipnet::Ipv4Net)> = slices
            .iter()
            .map(|(name, slice, _)| (name, slice.parse().unwrap()))
            .filter(|(_, slice): &(_, ipnet::Ipv4Net)| slice.prefix_len() < 32)
            .collect();
        let distinct: BTreeSet<_> = blocks.iter().collect();
        assert_eq!(blocks.len(), distinct.len(), "a block has two owners: {slices:?}");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some((_, runtime)) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

/// What an agent knows, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    peers: BTreeSet<String>,
    networks: BTreeSet<String>,
    containers: BTreeMap<String, (bool, BTreeSet<Ipv4Addr>)>,
}

impl Summary {
    fn of(state: &wharf_protocol::State) -> Self {
        let on = |container: &wharf_protocol::Container| {
            let addresses = container.endpoints.iter().map(|endpoint| match endpoint.address {
                std::net::IpAddr::V4(address) => address,
                std::net::IpAddr::V6(address) => panic!("{address}: there is no such"),
            });
            addresses.collect()
        };
        Self {
            peers: state.peers.values().map(|peer| peer.name.clone()).collect(),
            networks: state.networks.values().map(|network| network.name.clone()).collect(),
            containers: state
                .containers
                .values()
                .map(|container| (container.name.clone(), (container.up, on(container))))
                .collect(),
        }
    }
}
