//! Networks that span the fleet: what they are (kept in the store), the part that each node's engine has of them, and the
//! addresses that containers get.
//!
//! **Invariant:** a block of a network's range has one owner, written in the store before anybody uses it. Addresses are not
//! stored: the engines keep those of their containers, and a [`Lease`] holds one until its container is known.

mod detach;
mod endpoint;
mod lease;
mod part;
mod reaper;
mod record;
mod request;

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use wharf_model::{FleetNetwork, NetworkId, NodeId, Snapshot};
use wharf_plan::addresses::{self, Pool};

pub use self::reaper::Reaping;
pub(crate) use self::{
    endpoint::{Join, Wiring, asked_address, default_bridge, endpoint_for_client, endpoint_for_engine},
    lease::Lease,
    part::gateway,
    reaper::reap,
    record::NetworkRecord,
    request::NewNetwork,
};
use crate::{
    Error,
    agents::Agents,
    fleet::{Fleet, NodeEvent, now},
    records::Records,
    view::events::of_network,
};

/// What tunnels put around a packet, at most: VXLAN within WireGuard, over IPv6.
pub(crate) const OVERHEAD: u32 = 130;

/// The underlay's MTU where no agent has told one: Ethernet's.
const USUAL_MTU: u32 = 1500;

/// What a network has to carry at least: IPv6's own minimum.
const LEAST_MTU: u32 = 1280;

/// A network that is created while agents are still starting waits so long for them, so that it fits their hosts.
const AGENTS_WITHIN: Duration = Duration::from_secs(10);

/// The fleet's networks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Networks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fleet: Fleet,
    agents: Agents,
    records: Records,
    pools: Vec<Pool>,
    fleet_id: String,
    /// Whoever changes what networks there are, and who has which block.
    changing: tokio::sync::Mutex<()>,
    leases: Mutex<lease::Leases>,
    /// Whose turn it is to make or remove the part that a node has of a network.
    turns: Mutex<HashMap<(NetworkId, NodeId), Turn>>,
}

/// Held by whoever's turn it is.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl Networks {
    /// The networks that the store knows; they are in the state when this returns.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn open(
        fleet: Fleet,
        agents: Agents,
        records: Records,
        pools: Vec<Pool>,
        fleet_id: &str,
    ) -> Result<Self, Error> {
        for network in records.networks().await? {
            fleet.put_network(network).await;
        }
        for (container, network) in records.detached().await? {
            fleet.set_detached(container, network, true).await;
        }
        let leases = Mutex::default();
        let fleet_id = fleet_id.to_owned();
        let (changing, turns) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { fleet, agents, records, pools, fleet_id, changing, leases, turns })))
    }

    /// Whether networks span the fleet at all: not without agents.
    pub(crate) fn are_on(&self) -> bool {
        self.0.agents.are_on()
    }

    /// Creates a network. Its name is free for as long as the caller holds a claim on it.
    ///
    /// # Errors
    /// [`wharf_model::Class::Conflict`] or [`wharf_model::Class::Forbidden`] if its range overlaps with another's;
    /// [`wharf_model::Class::Invalid`] for a packet size that the hosts do not carry; what the store says.
    pub(crate) async fn create(&self, new: NewNetwork) -> Result<Arc<FleetNetwork>, Error> {
        let inner = &*self.0;
        inner.agents.reported(AGENTS_WITHIN).await;
        let _changing = inner.changing.lock().await;
        let snapshot = inner.fleet.snapshot();
        let taken = self.taken(&snapshot);
        let free_of_others = |range: IpNet| match taken.iter().find(|(other, _)| addresses::overlap(other, &range)) {
            Some((other, whose)) => Err(Error::forbidden(format!(
                "Pool overlaps with other one on this address space: {range} and {other}, {whose}"
            ))),
            None => Ok(()),
        };
        let range = match new.range {
            Some(range) => range,
            None => {
                let taken: Vec<_> = taken.iter().map(|(range, _)| *range).collect();
                let free = addresses::free_range(&inner.pools, &taken);
                free.ok_or_else(|| Error::forbidden(self.exhausted(&snapshot)))?
            }
        };
        let carried = mtu(&snapshot);
        let mtu = match new.mtu {
            Some(mtu) if mtu > carried => {
                return Err(Error::invalid(format!(
                    "an MTU of {mtu}: the nodes' own networks carry {} bytes, of which the tunnel leaves {carried}",
                    carried + OVERHEAD
                )));
            }
            Some(mtu) => mtu,
            None => carried,
        };
        let network = Arc::new(new.network(range, mtu)?);
        free_of_others(range.into())?;
        network.range6.map_or(Ok(()), |range6| free_of_others(range6.into()))?;
        inner.records.create_network(&network).await?;
        inner.fleet.put_network(Arc::clone(&network)).await;
        self.tell(&network, "create");
        Ok(network)
    }

    /// Removes a network of which the caller has seen that nobody is on it. Nodes that cannot be reached now lose their part
    /// when they are back.
    ///
    /// # Errors
    /// [`wharf_model::Class::Forbidden`] if somebody has joined it meanwhile; what the store says.
    pub(crate) async fn remove(&self, network: &FleetNetwork) -> Result<(), Error> {
        let inner = &*self.0;
        let changing = inner.changing.lock().await;
        let snapshot = inner.fleet.snapshot();
        let _going = match self.going(network.id, None) {
            Some(going) => going,
            None if snapshot.fleet_network(network.id).is_none() => {
                return Err(Error::not_found(format!("network {} not found", network.name)));
            }
            None => return Err(in_use(&snapshot, network)),
        };
        inner.records.remove_network(network).await?;
        inner.fleet.drop_network(network.id).await;
        drop(changing);
        self.tell(network, "destroy");
        self.remove_parts(network.id).await;
        Ok(())
    }

    /// Gives a node a block of a network; the one around an address, if one is named.
    async fn take_slice(
        &self,
        network: NetworkId,
        node: NodeId,
        around: Option<Ipv4Addr>,
    ) -> Result<Arc<FleetNetwork>, Error> {
        let inner = &*self.0;
        let _changing = inner.changing.lock().await;
        let network = self.known(network)?;
        let slice = match around {
            Some(address) if network.slice_with(address).is_some() => return Ok(network),
            Some(address) => addresses::slice_around(&network, address),
            None => addresses::free_slice(&network),
        };
        let slice = slice.ok_or_else(|| full(&network))?;
        let mut changed = FleetNetwork::clone(&network);
        changed.give(slice, node);
        self.keep(changed).await
    }

    /// Takes a node's blocks back. Nobody uses them any more.
    async fn free_slices(&self, network: NetworkId, node: NodeId) -> Result<(), Error> {
        let _changing = self.0.changing.lock().await;
        let Ok(network) = self.known(network) else { return Ok(()) };
        let mut changed = FleetNetwork::clone(&network);
        changed.take_back(node);
        self.keep(changed).await.map(drop)
    }

    fn tell(&self, network: &FleetNetwork, action: &str) {
        let event = of_network(network, action, now());
        self.0.fleet.hub().publish(NodeEvent { node: None, event });
    }

    async fn keep(&self, network: FleetNetwork) -> Result<Arc<FleetNetwork>, Error> {
        let network = Arc::new(network);
        self.0.records.put_network(&network).await?;
        self.0.fleet.put_network(Arc::clone(&network)).await;
        Ok(network)
    }

    fn known(&self, id: NetworkId) -> Result<Arc<FleetNetwork>, Error> {
        let found = self.0.fleet.snapshot().fleet_network(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("network {id} not found")))
    }

    fn turn(&self, network: NetworkId, node: NodeId) -> Turn {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry((network, node)).or_default())
    }

    /// Ranges that a new network must keep away from, and whose they are.
    fn taken(&self, snapshot: &Snapshot) -> Vec<(IpNet, String)> {
        let of_fleet = snapshot.fleet_networks().flat_map(|network| {
            let ranges = [Some(network.range.into()), network.range6.map(IpNet::from)].into_iter().flatten();
            ranges.map(|range| (range, format!("of network {}", network.name)))
        });
        let nodes =
            addresses::node_block(&self.0.pools).map(|block| (block.into(), "of the nodes' own addresses".to_owned()));
        let of_engines = snapshot.nodes().flat_map(|node| {
            let networks = node.networks.values().filter(|network| network.fleet.is_none());
            let ranges = networks.flat_map(|network| {
                let whose = format!("of network {} on {}", network.name, node.name);
                part::ranges(&network.entry).into_iter().map(move |range| (range, whose.clone()))
            });
            let agent = node.agent.iter().flat_map(|agent| &agent.routes);
            ranges.chain(agent.map(|route| (*route, format!("to which {} has a route", node.name))))
        });
        of_fleet.chain(nodes).chain(of_engines).collect()
    }

    fn exhausted(&self, snapshot: &Snapshot) -> String {
        let pools: Vec<_> = self.0.pools.iter().map(ToString::to_string).collect();
        format!(
            "could not find an available range of addresses among {}: {} networks and the nodes' own routes have them all; \
             remove networks (docker network prune), give this one a --subnet, or serve with another --network-pool",
            pools.join(", "),
            snapshot.fleet_networks().count(),
        )
    }
}

/// The largest packet that a network can have over all hosts that are known.
fn mtu(snapshot: &Snapshot) -> u32 {
    let underlay = snapshot.nodes().filter_map(|node| node.agent.as_ref()).map(|agent| agent.underlay_mtu).min();
    underlay.unwrap_or(USUAL_MTU).saturating_sub(OVERHEAD).max(LEAST_MTU)
}

/// A network's addresses are all taken, those of one node at least, and there is no further block for it.
fn full(network: &FleetNetwork) -> Error {
    Error::conflict(format!(
        "network {} has no address left: its {} blocks of {} addresses each are divided among {} nodes; create it with a \
         larger --subnet",
        network.name,
        network.slices.len(),
        1u32 << (32 - network.slice_prefix()),
        network.nodes().len(),
    ))
}

/// Docker's refusal to remove a network, naming who uses it.
pub(crate) fn in_use(snapshot: &Snapshot, network: &FleetNetwork) -> Error {
    let names: Vec<_> = snapshot.members(network).map(|(_, container, _)| &*container.name).collect();
    let named = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    Error::forbidden(format!(
        "error while removing network: network {} id {} has active endpoints ({named}{more})",
        network.name, network.id
    ))
}
