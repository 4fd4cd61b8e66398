//! Addresses that are promised to containers that are not known yet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, PoisonError},
};

use wharf_model::{FleetNetwork, NetworkId, Node, NodeId, Snapshot};
use wharf_plan::addresses;

use super::{Inner, Networks};
use crate::Error;

/// Addresses that are promised, and the last ones that were.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<(NetworkId, Ipv4Addr), NodeId>,
    last: BTreeMap<(NetworkId, NodeId), Ipv4Addr>,
}

/// An address that nobody else gets, until this is dropped. Drop it when the state knows the container that has it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) network: NetworkId,
    pub(crate) address: Ipv4Addr,
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
        let mut known = self.known(network)?;
        if let Some(address) = wanted {
            if !known.range.contains(&address) {
                return Err(Error::invalid(format!(
                    "Invalid address {address}: It does not belong to any of this network's subnets: {} has {}",
                    known.name, known.range
                )));
            }
            if known.slice_with(address).is_none() {
                known = self.take_slice(network, node.id, Some(address)).await?;
            }
        }
        loop {
            // A node's gateway is in its first slice: it has one, also where the address is of another's.
            if known.slices_of(node.id).next().is_some()
                && let Some(lease) = self.try_lease(&known, node.id, wanted)?
            {
                // With the lease held, nobody takes the part away.
                self.ensure_part(&known, node).await?;
                return Ok(lease);
            }
            known = self.take_slice(network, node.id, None).await?;
        }
    }

    /// `None` if the node's slices are full.
    fn try_lease(
        &self,
        network: &FleetNetwork,
        node: NodeId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Option<Lease>, Error> {
        let mut leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        // A snapshot from after the lock was had: what was leased and is so no more is in it.
        let snapshot = self.0.fleet.snapshot();
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
                let taken: std::collections::BTreeSet<_> =
                    snapshot.members_on(network, node).filter_map(|(_, attached)| attached.address).collect();
                let held = &leases.held;
                let is_taken =
                    |address| taken.contains(&IpAddr::V4(address)) || held.contains_key(&(network.id, address));
                let last = leases.last.get(&(network.id, node)).copied();
                let Some(free) = addresses::free_address(network, node, last, is_taken) else { return Ok(None) };
                leases.last.insert((network.id, node), free);
                free
            }
        };
        leases.held.insert((network.id, address), node);
        Ok(Some(Lease { network: network.id, address, owner: Arc::clone(&self.0) }))
    }

    /// Whether an address of a network is promised; of one node, if that is named.
    pub(super) fn is_leased(&self, network: NetworkId, node: Option<NodeId>) -> bool {
        let leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let all = (network, Ipv4Addr::UNSPECIFIED)..=(network, Ipv4Addr::BROADCAST);
        leases.held.range(all).any(|(_, of)| node.is_none_or(|node| node == *of))
    }
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
