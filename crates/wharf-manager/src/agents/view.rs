//! What agents have to know of the fleet, brought up to date change by change: the work of a change is the change's own size
//! and not the fleet's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::Ipv4Net;
use serde_json::Value;
use wharf_model::{Container, ContainerId, DNS_LABEL, FleetNetwork, Health, NetworkId, Node, NodeId, Snapshot};
use wharf_plan::addresses::{self, Pool};
use wharf_protocol::{Endpoint, Me, Network, Peer, Update};

use crate::networks::default_bridge;

/// What agents have to know.
#[derive(Debug)]
pub(super) struct View {
    pools: Vec<Pool>,
    nodes: BTreeMap<NodeId, (Option<Me>, Option<Peer>)>,
    networks: BTreeMap<NetworkId, Spanned>,
    containers: BTreeMap<ContainerId, (NodeId, wharf_protocol::Container)>,
    of_node: BTreeMap<NodeId, BTreeSet<ContainerId>>,
    networks_of: BTreeMap<NodeId, BTreeSet<NetworkId>>,
    /// Containers that have only been listed: what they are called is not known yet, and agents may know it from before.
    listed: BTreeSet<(NodeId, ContainerId)>,
}

/// A network, who is on it, and who has an address of another node's block.
#[derive(Debug, Clone)]
struct Spanned {
    network: Arc<FleetNetwork>,
    members: BTreeSet<ContainerId>,
    strays: BTreeMap<(Ipv4Addr, ContainerId), NodeId>,
}

/// What has changed, and whom it concerns beside those whose node it is.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Nodes that say something else of themselves.
    pub(super) nodes: BTreeSet<NodeId>,
    /// Networks, each with the nodes that had a block of it before.
    pub(super) networks: BTreeMap<NetworkId, BTreeSet<NodeId>>,
    /// Containers, each with the nodes that have to know.
    pub(super) containers: BTreeMap<ContainerId, BTreeSet<NodeId>>,
}

impl View {
    pub(super) fn new(pools: Vec<Pool>) -> Self {
        Self {
            pools,
            nodes: BTreeMap::new(),
            networks: BTreeMap::new(),
            containers: BTreeMap::new(),
            of_node: BTreeMap::new(),
            networks_of: BTreeMap::new(),
            listed: BTreeSet::new(),
        }
    }

    /// The nodes of which it is not known yet what they have: since the manager started, they have not been read, or not all
    /// of their containers have been looked into.
    pub(super) fn unread(&self, snapshot: &Snapshot) -> BTreeSet<u32> {
        let pending = snapshot.nodes().filter(|node| node.health == Health::Pending).map(|node| node.id);
        pending.chain(self.listed.iter().map(|(node, _)| *node)).map(|node| node.0).collect()
    }

    /// Follows the state from one snapshot to the next. `starting` are containers that are about to run.
    pub(super) fn follow(&mut self, from: &Snapshot, to: &Snapshot, starting: &dyn Fn(ContainerId) -> bool) -> Changes {
        let mut changes = Changes::default();
        self.follow_networks(from, to, &mut changes);
        for node in from.nodes().filter(|node| to.node(node.id).is_none()) {
            self.nodes.remove(&node.id);
            self.listed.retain(|(of, _)| *of != node.id);
            changes.nodes.insert(node.id);
            for id in self.of_node.get(&node.id).cloned().unwrap_or_default() {
                self.put(id, None, to, &mut changes);
            }
        }
        for node in to.nodes() {
            let before = from.node(node.id);
            if before.is_some_and(|before| Arc::ptr_eq(before, node)) {
                continue;
            }
            let told = (self.me(node), peer(node, &self.pools));
            if self.nodes.get(&node.id) != Some(&told) {
                self.nodes.insert(node.id, told);
                changes.nodes.insert(node.id);
            }
            self.follow_node(before.map(AsRef::as_ref), node, to, starting, &mut changes);
        }
        let detached = |snapshot: &Snapshot| snapshot.detached().collect::<BTreeSet<_>>();
        for (id, _) in detached(from).symmetric_difference(&detached(to)) {
            if let Some(container) = to.container(*id)
                && let Some(node) = to.node(container.node)
            {
                let told = told(container, node, to, starting(*id));
                self.put(*id, Some((node.id, told)), to, &mut changes);
            }
        }
        changes
    }

    fn follow_networks(&mut self, from: &Snapshot, to: &Snapshot, changes: &mut Changes) {
        for gone in from.fleet_networks().filter(|network| to.fleet_network(network.id).is_none()) {
            if let Some(spanned) = self.networks.remove(&gone.id) {
                let nodes = spanned.network.nodes();
                for node in &nodes {
                    self.networks_of.entry(*node).or_default().remove(&gone.id);
                }
                for id in spanned.members {
                    changes.containers.entry(id).or_default().extend(&nodes);
                }
                changes.networks.insert(gone.id, nodes);
            }
        }
        for network in to.fleet_networks() {
            let known = self.networks.get_mut(&network.id);
            if known.as_ref().is_some_and(|known| Arc::ptr_eq(&known.network, network)) {
                continue;
            }
            let before = known.as_ref().map(|known| known.network.nodes()).unwrap_or_default();
            match known {
                Some(known) => known.network = Arc::clone(network),
                None => {
                    let (members, strays) = Default::default();
                    self.networks.insert(network.id, Spanned { network: Arc::clone(network), members, strays });
                }
            }
            let now = network.nodes();
            // Who has just come to a network learns who is on it; who has left it need not know any more.
            let moved: Vec<_> = before.symmetric_difference(&now).copied().collect();
            if !moved.is_empty() {
                for id in self.networks.get(&network.id).into_iter().flat_map(|spanned| &spanned.members) {
                    changes.containers.entry(*id).or_default().extend(&moved);
                }
            }
            for node in before.difference(&now) {
                self.networks_of.entry(*node).or_default().remove(&network.id);
            }
            for node in &now {
                self.networks_of.entry(*node).or_default().insert(network.id);
            }
            changes.networks.insert(network.id, before);
        }
    }

    fn follow_node(
        &mut self,
        before: Option<&Node>,
        node: &Node,
        to: &Snapshot,
        starting: &dyn Fn(ContainerId) -> bool,
        changes: &mut Changes,
    ) {
        // A part that comes or goes changes what a container's network means.
        let parts = |node: &Node| node.networks.values().map(|network| (network.id, network.fleet)).collect::<Vec<_>>();
        let same_parts =
            before.is_some_and(|before| Arc::ptr_eq(&before.networks, &node.networks) || parts(before) == parts(node));
        let put = |view: &mut Self, container: &Container, changes: &mut Changes| {
            let mut told = told(container, node, to, starting(container.id));
            if !container.is_inspected() && !told.endpoints.is_empty() {
                let Some((_, known)) = view.containers.get(&container.id) else {
                    view.listed.insert((node.id, container.id));
                    return;
                };
                keep_names(&mut told, known);
            }
            view.listed.remove(&(node.id, container.id));
            view.put(container.id, Some((node.id, told)), to, changes);
        };
        match before.filter(|_| same_parts) {
            Some(before) => {
                for item in before.containers.diff(&node.containers) {
                    match item {
                        imbl::ordmap::DiffItem::Add(_, container) => put(self, container, changes),
                        imbl::ordmap::DiffItem::Update { new: (_, container), .. } => put(self, container, changes),
                        imbl::ordmap::DiffItem::Remove(id, _) => {
                            self.listed.remove(&(node.id, *id));
                            self.put(*id, None, to, changes);
                        }
                    }
                }
            }
            None => {
                let gone: Vec<_> = self.of_node.get(&node.id).into_iter().flatten().copied().collect();
                gone.into_iter().filter(|id| !node.containers.contains_key(id)).for_each(|id| {
                    self.put(id, None, to, changes);
                });
                self.listed.retain(|(of, id)| *of != node.id || node.containers.contains_key(id));
                node.containers.values().for_each(|container| put(self, container, changes));
            }
        }
    }

    /// A container that is about to run, or is not after all.
    pub(super) fn restate(&mut self, id: ContainerId, to: &Snapshot, starting: bool) -> Changes {
        let mut changes = Changes::default();
        if let Some(container) = to.container(id)
            && container.is_inspected()
            && let Some(node) = to.node(container.node)
        {
            self.put(id, Some((node.id, told(container, node, to, starting))), to, &mut changes);
        }
        changes
    }

    fn put(
        &mut self,
        id: ContainerId,
        now: Option<(NodeId, wharf_protocol::Container)>,
        to: &Snapshot,
        changes: &mut Changes,
    ) {
        let before = self.containers.get(&id);
        if before == now.as_ref() {
            return;
        }
        let mut audience = BTreeSet::new();
        let mut joined: BTreeMap<NetworkId, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for (node, container) in [before, now.as_ref()].into_iter().flatten() {
            audience.insert(*node);
            for network in container.endpoints.iter().filter_map(|endpoint| endpoint.network.parse().ok()) {
                joined.entry(network).or_default();
            }
        }
        if let Some((node, container)) = &now {
            for endpoint in &container.endpoints {
                if let (Ok(network), IpAddr::V4(address)) = (endpoint.network.parse(), endpoint.address)
                    && let Some(spanned) = self.networks.get(&network)
                    && spanned.network.slice_with(address).is_none_or(|(_, owner)| owner != *node)
                {
                    joined.entry(network).or_default().insert(address);
                }
            }
        }
        let owner = now.as_ref().map(|(node, _)| *node);
        for (network, strays) in joined {
            let of_network = to.fleet_network(network).map(|network| network.nodes()).unwrap_or_default();
            audience.extend(of_network);
            let Some(spanned) = self.networks.get_mut(&network) else { continue };
            let is_member = now.iter().any(|(_, container)| {
                container.endpoints.iter().any(|endpoint| endpoint.network.parse() == Ok(network))
            });
            if is_member {
                spanned.members.insert(id)
            } else {
                spanned.members.remove(&id)
            };
            let had: Vec<_> = addresses_of(self.containers.get(&id), network);
            let mut changed = false;
            for address in had.iter().filter(|address| !strays.contains(address)) {
                changed |= spanned.strays.remove(&(*address, id)).is_some();
            }
            for address in strays {
                changed |= owner.is_some_and(|owner| spanned.strays.insert((address, id), owner) != Some(owner));
            }
            if changed {
                changes.networks.entry(network).or_insert_with(|| spanned.network.nodes());
            }
        }
        if let Some((node, _)) = self.containers.remove(&id)
            && let Some(of_node) = self.of_node.get_mut(&node)
        {
            of_node.remove(&id);
        }
        if let Some((node, container)) = now {
            self.of_node.entry(node).or_default().insert(id);
            self.containers.insert(id, (node, container));
        }
        changes.containers.entry(id).or_default().extend(audience);
    }

    fn me(&self, node: &Node) -> Option<Me> {
        let local = node.networks.values().filter(|network| network.fleet.is_none() && &*network.driver == "bridge");
        Some(Me {
            node: node.id.0,
            name: node.name.to_string(),
            tunnel_address: addresses::node_address(&self.pools, node.id)?,
            bridges: local.filter_map(|network| bridge(&network.entry, &network.id.to_string())).collect(),
            dns_addresses: default_bridge(node).map(IpAddr::V4).into_iter().collect(),
        })
    }

    // === telling ===

    /// All that a node's agent has to know.
    pub(super) fn all(&self, node: NodeId, peers: &BTreeSet<NodeId>) -> Vec<Update> {
        let mut updates = vec![Update::Reset];
        updates.extend(self.about_me(node));
        updates.extend(peers.iter().map(|peer| self.about_peer(*peer)));
        let networks = self.networks_of.get(&node).cloned().unwrap_or_default();
        let mut members = self.of_node.get(&node).cloned().unwrap_or_default();
        for network in networks {
            updates.push(self.about_network(network, node));
            members.extend(self.members(network));
        }
        updates.extend(members.into_iter().map(|id| self.about_container(id, node)));
        updates
    }

    /// The other nodes that a node has a network in common with.
    pub(super) fn peers_of(&self, node: NodeId) -> BTreeSet<NodeId> {
        let networks = self.networks_of.get(&node).into_iter().flatten();
        let mut peers: BTreeSet<_> =
            networks.filter_map(|id| self.networks.get(id)).flat_map(|spanned| spanned.network.nodes()).collect();
        peers.remove(&node);
        peers
    }

    /// The nodes that have a block of a network.
    pub(super) fn nodes_of(&self, network: NetworkId) -> BTreeSet<NodeId> {
        self.networks.get(&network).map(|spanned| spanned.network.nodes()).unwrap_or_default()
    }

    fn members(&self, network: NetworkId) -> BTreeSet<ContainerId> {
        self.networks.get(&network).map(|spanned| spanned.members.clone()).unwrap_or_default()
    }

    pub(super) fn about_me(&self, node: NodeId) -> Option<Update> {
        self.nodes.get(&node)?.0.clone().map(Update::Me)
    }

    pub(super) fn about_peer(&self, node: NodeId) -> Update {
        let peer = self.nodes.get(&node).and_then(|(_, peer)| peer.clone());
        peer.map_or(Update::PeerGone(node.0), |peer| Update::Peer(node.0, peer))
    }

    pub(super) fn about_network(&self, id: NetworkId, to: NodeId) -> Update {
        let gone = || Update::NetworkGone(id.to_string());
        let Some(Spanned { network, strays, .. }) = self.networks.get(&id) else { return gone() };
        let Some(gateway) = network.gateway_on(to) else { return gone() };
        let slices = network.slices.iter().map(|(slice, node)| (*slice, node.0));
        // A block that its node has taken since is as good.
        let is_stray = |address: Ipv4Addr, node| network.slice_with(address).is_none_or(|(_, owner)| owner != node);
        let strays = strays.iter().filter(|((address, _), node)| is_stray(*address, **node));
        let strays = strays.map(|((address, _), node)| (Ipv4Net::from(*address), node.0));
        let told = Network {
            name: network.name.to_string(),
            range: network.range,
            range6: network.range6,
            bridge: network.bridge(),
            gateway,
            internal: network.internal,
            encrypted: network.encrypted,
            slices: slices.chain(strays).collect(),
        };
        Update::Network(id.to_string(), told)
    }

    /// A container as a node has to know it: not at all if it is another's and on none of its networks.
    pub(super) fn about_container(&self, id: ContainerId, to: NodeId) -> Update {
        let networks = self.networks_of.get(&to);
        let shared = |endpoint: &Endpoint| {
            let network = endpoint.network.parse();
            networks.zip(network.ok()).is_some_and(|(networks, network)| networks.contains(&network))
        };
        let known = self.containers.get(&id);
        let known = known.filter(|(node, container)| *node == to || container.endpoints.iter().any(shared));
        known.map(|(_, container)| container.clone()).map_or_else(
            || Update::ContainerGone(id.to_string()),
            |container| Update::Container(id.to_string(), container),
        )
    }
}

/// Addresses that a container had on a network.
fn addresses_of(before: Option<&(NodeId, wharf_protocol::Container)>, network: NetworkId) -> Vec<Ipv4Addr> {
    let endpoints = before.into_iter().flat_map(|(_, container)| &container.endpoints);
    let on = endpoints.filter(|endpoint| endpoint.network.parse() == Ok(network));
    let address = |endpoint: &Endpoint| match endpoint.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    on.filter_map(address).collect()
}

/// A node as others know it; `None` before its agent has said where it is.
pub(super) fn peer(node: &Node, pools: &[Pool]) -> Option<Peer> {
    let agent = node.agent.as_ref()?;
    let IpAddr::V4(underlay) = agent.underlay else { return None };
    Some(Peer {
        name: node.name.to_string(),
        tunnel_address: addresses::node_address(pools, node.id)?,
        underlay,
        key: agent.key.to_string(),
    })
}

/// What is told of a container.
fn told(container: &Container, node: &Node, snapshot: &Snapshot, starting: bool) -> wharf_protocol::Container {
    let (mut local, mut endpoints) = (Vec::new(), Vec::new());
    for attached in &container.networks {
        let Some(address) = attached.address else { continue };
        let Some(network) = node.fleet_network(attached) else {
            local.push(address);
            continue;
        };
        if snapshot.is_detached(container.id, network) {
            continue;
        }
        let fleet = attached.fleet.as_deref();
        let links = fleet.iter().flat_map(|fleet| &fleet.links);
        endpoints.push(Endpoint {
            network: network.to_string(),
            address,
            aliases: fleet.iter().flat_map(|fleet| &fleet.aliases).map(ToString::to_string).collect(),
            links: links.map(|(target, alias)| (target.to_string(), alias.to_string())).collect(),
        });
    }
    let dns = container.labels.get(DNS_LABEL).unwrap_or_default().split(',');
    wharf_protocol::Container {
        node: node.id.0,
        name: container.name.to_string(),
        up: container.phase.is_up() || starting,
        local,
        dns: dns.filter_map(|server| server.trim().parse().ok()).collect(),
        endpoints,
    }
}

/// What a list leaves out is taken to be as it was.
fn keep_names(told: &mut wharf_protocol::Container, known: &wharf_protocol::Container) {
    told.dns.clone_from(&known.dns);
    for endpoint in &mut told.endpoints {
        if let Some(known) = known.endpoints.iter().find(|known| known.network == endpoint.network) {
            endpoint.aliases.clone_from(&known.aliases);
            endpoint.links.clone_from(&known.links);
        }
    }
}

/// The name of a bridge that an engine has for a network of its own.
fn bridge(entry: &str, id: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(entry).ok()?;
    let named = entry["Options"]["com.docker.network.bridge.name"].as_str().map(str::to_owned);
    named.or_else(|| Some(format!("br-{}", id.get(..12)?)))
}
