//! Addresses that are promised to containers that are not known yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, PoisonError},
};

use wharf_model::{FleetNetwork, NetworkId, Node, NodeId, Snapshot};
use wharf_plan::addresses;

use super::{Inner, Join, Networks};
use crate::Error;

/// Addresses that are promised, and the last ones that were.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<(NetworkId, Ipv4Addr), NodeId>,
    last: BTreeMap<(NetworkId, NodeId), Ipv4Addr>,
    /// Parts and blocks that are being taken back: nothing of them is promised. Without a node, whole networks.
    going: BTreeSet<(NetworkId, Option<NodeId>)>,
}

/// What came of asking for an address.
enum Asked {
    Leased(Lease),
    /// The node's blocks are full.
    Full,
    /// The block is just being taken back from that node.
    Going(NodeId),
}

/// Nothing of a part, or of a network, is promised until this is dropped.
#[derive(Debug)]
pub(super) struct Going {
    what: (NetworkId, Option<NodeId>),
    owner: Arc<Inner>,
}

impl Drop for Going {
    fn drop(&mut self) {
        self.owner.leases.lock().unwrap_or_else(PoisonError::into_inner).going.remove(&self.what);
    }
}

/// An address that nobody else gets, until this is dropped. Drop it when the state knows the container that has it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) network: NetworkId,
    pub(crate) address: Ipv4Addr,
    /// The one that goes with it, where the network has such.
    pub(crate) address6: Option<Ipv6Addr>,
    owner: Arc<Inner>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.owner.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.held.remove(&(self.network, self.address));
    }
}

impl Networks {
    /// An address on a network for a container of a node: the one that is wanted, or any. The node has its part when this
    /// returns.
    ///
    /// # Errors
    /// [`wharf_model::Class::Conflict`] if somebody has the address, or the network is full; [`wharf_model::Class::Invalid`]
    /// if it is none of the network's.
    pub(crate) async fn lease(
        &self,
        network: NetworkId,
        node: &Node,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Lease, Error> {
        loop {
            let known = self.known(network)?;
            if let Some(address) = wanted {
                if !known.range.contains(&address) {
                    return Err(Error::invalid(format!(
                        "Invalid address {address}: It does not belong to any of this network's subnets: {} has {}",
                        known.name, known.range
                    )));
                }
                if known.slice_with(address).is_none() && addresses::slice_around(&known, address).is_some() {
                    self.take_slice(network, node.id, Some(address)).await?;
                    continue;
                }
            }
            match self.try_lease(network, node.id, wanted)? {
                Asked::Leased(lease) => {
                    // With the lease held, nobody takes the part away.
                    self.ensure_part(network, node).await?;
                    return Ok(lease);
                }
                Asked::Full => drop(self.take_slice(network, node.id, None).await?),
                Asked::Going(owner) => drop(self.turn(network, owner).lock().await),
            }
        }
    }

    fn try_lease(&self, id: NetworkId, node: NodeId, wanted: Option<Ipv4Addr>) -> Result<Asked, Error> {
        let mut leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        // A snapshot from after the lock was had: what was leased and is so no more is in it.
        let snapshot = self.0.fleet.snapshot();
        let network = snapshot.fleet_network(id).filter(|_| !leases.going.contains(&(id, None)));
        let network = network.ok_or_else(|| Error::not_found(format!("network {id} not found")))?;
        let owner = wanted.and_then(|address| network.slice_with(address)).map(|(_, owner)| owner);
        let mut needed = [Some(node), owner].into_iter().flatten();
        if let Some(going) = needed.find(|node| leases.going.contains(&(id, Some(*node)))) {
            return Ok(Asked::Going(going));
        }
        // A node's gateway is in its first slice: it has one, also where the address is of another's.
        if network.slices_of(node).next().is_none() {
            return Ok(Asked::Full);
        }
        let address = match wanted {
            Some(address) => {
                if let Some(by) = holder(&snapshot, network, address, &leases) {
                    return Err(Error::conflict(format!(
                        "Address already in use: {address} on network {} {by}",
                        network.name
                    )));
                }
                address
            }
            None => {
                // Those of all nodes: one may have been given an address of this one's block.
                let taken: BTreeSet<_> =
                    snapshot.members(network).filter_map(|(_, _, attached)| attached.address).collect();
                let held = &leases.held;
                let is_taken = |address| taken.contains(&IpAddr::V4(address)) || held.contains_key(&(id, address));
                let last = leases.last.get(&(id, node)).copied();
                let Some(free) = addresses::free_address(network, node, last, is_taken) else {
                    return Ok(Asked::Full);
                };
                leases.last.insert((id, node), free);
                free
            }
        };
        leases.held.insert((id, address), node);
        let address6 = network.pairing().map(|pairing| pairing.six(address));
        Ok(Asked::Leased(Lease { network: id, address, address6, owner: Arc::clone(&self.0) }))
    }

    /// The nodes on which one of these networks has no address left, and what is to be said of it.
    ///
    /// # Errors
    /// [`wharf_model::Class::Conflict`] if there is none left on any node.
    pub(crate) fn full_on(&self, joins: &[Join], snapshot: &Snapshot) -> Result<BTreeMap<NodeId, Error>, Error> {
        let mut without = BTreeMap::new();
        for join in joins.iter().filter(|join| join.address.is_none()) {
            let Some(network) = snapshot.fleet_network(join.network) else { continue };
            // Whoever has no room takes the next block.
            if addresses::free_slice(network).is_some() {
                continue;
            }
            let leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
            let taken: BTreeSet<_> = leases.of(network.id).map(|(address, _)| IpAddr::V4(address)).collect();
            let of_members = snapshot.members(network).filter_map(|(_, _, attached)| attached.address);
            let taken: BTreeSet<_> = of_members.chain(taken).collect();
            let is_full = |node: &&Arc<Node>| {
                let is_taken = |address| taken.contains(&IpAddr::V4(address));
                addresses::free_address(network, node.id, None, is_taken).is_none()
            };
            let full: Vec<_> = snapshot.nodes().filter(is_full).map(|node| node.id).collect();
            if full.len() == snapshot.nodes().count() {
                return Err(super::full(network));
            }
            without.extend(full.into_iter().map(|node| (node, super::full(network))));
        }
        Ok(without)
    }

    /// Keeps a part, or a whole network, from being promised any more; `None` if somebody uses it, or is about to.
    pub(super) fn going(&self, network: NetworkId, node: Option<NodeId>) -> Option<Going> {
        let mut leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.0.fleet.snapshot();
        let known = snapshot.fleet_network(network)?;
        let used = match node {
            Some(node) => !is_unused(&snapshot, &leases, known, node),
            None => leases.of(network).next().is_some() || snapshot.members(known).next().is_some(),
        };
        if used || !leases.going.insert((network, node)) {
            return None;
        }
        drop(leases);
        Some(Going { what: (network, node), owner: Arc::clone(&self.0) })
    }

    /// The parts that nobody is on, of nodes that answer.
    pub(super) fn unused(&self) -> BTreeSet<(NetworkId, NodeId)> {
        let snapshot = self.0.fleet.snapshot();
        let leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = snapshot.fleet_networks().flat_map(|network| {
            let nodes = network.nodes().into_iter();
            nodes.map(move |node| (network, node))
        });
        let unused = parts.filter(|(network, node)| is_unused(&snapshot, &leases, network, *node));
        unused.map(|(network, node)| (network.id, node)).collect()
    }
}

impl Leases {
    /// The addresses of a network that are promised, and the nodes to which.
    fn of(&self, network: NetworkId) -> impl Iterator<Item = (Ipv4Addr, NodeId)> {
        let all = (network, Ipv4Addr::UNSPECIFIED)..=(network, Ipv4Addr::BROADCAST);
        self.held.range(all).map(|((_, address), node)| (*address, *node))
    }
}

/// Whether nobody needs the part that a node has of a network: no container is on it or is to be, and none of another node has
/// an address of its blocks.
fn is_unused(snapshot: &Snapshot, leases: &Leases, network: &FleetNetwork, node: NodeId) -> bool {
    let of_node = |address| network.slice_with(address).is_some_and(|(_, owner)| owner == node);
    let is_its = |address| matches!(address, Some(IpAddr::V4(address)) if of_node(address));
    snapshot.node(node).is_some_and(|node| node.is_healthy())
        && snapshot.members_on(network, node).next().is_none()
        && !leases.of(network.id).any(|(address, to)| to == node || of_node(address))
        && !snapshot.members(network).any(|(_, _, attached)| is_its(attached.address))
}

/// Who has an address, in words; `None` if it may be given.
fn holder(snapshot: &Snapshot, network: &FleetNetwork, address: Ipv4Addr, leases: &Leases) -> Option<String> {
    if leases.held.contains_key(&(network.id, address)) {
        return Some("is promised to a container that is being created".to_owned());
    }
    let has = Some(IpAddr::V4(address));
    if let Some((node, container, _)) = snapshot.members(network).find(|(_, _, attached)| attached.address == has) {
        return Some(format!("is {}'s, on {}", container.name, node.name));
    }
    (!network.is_assignable(address)).then(|| "is a gateway's, reserved, or the end of a block".to_owned())
}
