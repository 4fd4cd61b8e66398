//! The table's inside: who has which name on which network, and who has which address. Changed in place.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use tokio::time::Instant;

use super::{Container, Network, NetworkId, gone::Gone};

/// How many digits of an id make the short id that Docker shows.
const SHORT_ID_DIGITS: usize = 12;

#[derive(Default)]
pub(super) struct Index {
    pub(super) networks: HashMap<NetworkId, Network>,
    pub(super) containers: HashMap<Arc<str>, Arc<Container>>,
    /// Who has which name on a network, also where the network itself is not known yet. Names in lower case.
    members: HashMap<NetworkId, HashMap<Arc<str>, Holders>>,
    /// Who has which address. More than one only while a change is under way, when an address went on to somebody else.
    addresses: HashMap<IpAddr, BTreeSet<Arc<str>>>,
    gone: Gone,
}

/// The ids of the containers that have a name on a network. Sorted, so that the same content answers the same way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Holders {
    by_name: BTreeSet<Arc<str>>,
    by_id: BTreeSet<Arc<str>>,
    by_alias: BTreeSet<Arc<str>>,
}

/// By what a container has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    Name,
    Id,
    Alias,
}

// === impl Index ===

impl Index {
    pub(super) fn put_network(&mut self, network: Network) {
        self.networks.insert(network.id.clone(), network);
    }

    pub(super) fn drop_network(&mut self, id: &NetworkId) {
        self.networks.remove(id);
        self.gone.remove_network(id);
    }

    pub(super) fn put_container(&mut self, container: Container, now: Instant) {
        let container = Arc::new(container);
        if let Some(before) = self.containers.get(&container.id).cloned() {
            if before == container {
                return;
            }
            self.take_out(&before, now);
        }
        self.put_in(&container);
        self.containers.insert(container.id.clone(), container);
    }

    pub(super) fn drop_container(&mut self, id: &str, now: Instant) {
        if let Some(container) = self.containers.remove(id) {
            self.take_out(&container, now);
        }
    }

    /// Several have an address only for a moment, and then the one that runs is meant.
    pub(super) fn asker(&self, source: IpAddr) -> Option<&Arc<Container>> {
        self.at(source).max_by_key(|container| container.up)
    }

    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Container>> {
        self.addresses.get(&address.to_canonical()).into_iter().flatten().filter_map(|id| self.containers.get(id))
    }

    /// The containers that have the name, in lower case, on the network.
    pub(super) fn holders(&self, network: &NetworkId, name: &str, rank: Rank) -> impl Iterator<Item = &Arc<Container>> {
        let holders = self.members.get(network).and_then(|names| names.get(name)).map(|holders| holders.of(rank));
        holders.into_iter().flatten().filter_map(|id| self.containers.get(id))
    }

    /// Whether somebody has the name on the network, or had it until just now.
    pub(super) fn knows(&self, network: &NetworkId, name: &str, now: Instant) -> bool {
        self.members.get(network).is_some_and(|names| names.contains_key(name)) || self.gone.knows(network, name, now)
    }

    fn put_in(&mut self, container: &Container) {
        for endpoint in &container.endpoints {
            let names = self.members.entry(endpoint.network.clone()).or_default();
            for (name, rank) in names_of(container, &endpoint.aliases) {
                self.gone.remove(&endpoint.network, &name);
                names.entry(name).or_default().of_mut(rank).insert(container.id.clone());
            }
        }
        for address in addresses_of(container) {
            self.addresses.entry(address).or_default().insert(container.id.clone());
        }
    }

    fn take_out(&mut self, container: &Container, now: Instant) {
        for endpoint in &container.endpoints {
            let Entry::Occupied(mut members) = self.members.entry(endpoint.network.clone()) else { continue };
            for (name, rank) in names_of(container, &endpoint.aliases) {
                let Entry::Occupied(mut holders) = members.get_mut().entry(name) else { continue };
                holders.get_mut().of_mut(rank).remove(&container.id);
                if holders.get().is_empty() {
                    let (name, _) = holders.remove_entry();
                    if self.networks.contains_key(&endpoint.network) {
                        self.gone.add(&endpoint.network, name, now);
                    }
                }
            }
            if members.get().is_empty() {
                members.remove();
            }
        }
        for address in addresses_of(container) {
            if let Entry::Occupied(mut holders) = self.addresses.entry(address) {
                holders.get_mut().remove(&container.id);
                if holders.get().is_empty() {
                    holders.remove();
                }
            }
        }
    }

    /// Whether both hold the same, whatever they remember.
    #[cfg(test)]
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.networks == other.networks
            && self.containers == other.containers
            && self.members == other.members
            && self.addresses == other.addresses
    }
}

fn names_of<'a>(container: &'a Container, aliases: &'a [Arc<str>]) -> impl Iterator<Item = (Arc<str>, Rank)> + 'a {
    let ids = [Some(&*container.id), container.id.get(..SHORT_ID_DIGITS)];
    std::iter::once((&*container.name, Rank::Name))
        .chain(ids.into_iter().flatten().map(|id| (id, Rank::Id)))
        .chain(aliases.iter().map(|alias| (&**alias, Rank::Alias)))
        .map(|(name, rank)| (name.to_ascii_lowercase().into(), rank))
}

fn addresses_of(container: &Container) -> impl Iterator<Item = IpAddr> {
    let fleet = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    fleet.chain(&container.local_addresses).map(IpAddr::to_canonical)
}

/// The short id of a container, or all of an id that is shorter yet.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID_DIGITS).unwrap_or(id)
}

// === impl Holders ===

impl Holders {
    fn of(&self, rank: Rank) -> &BTreeSet<Arc<str>> {
        match rank {
            Rank::Name => &self.by_name,
            Rank::Id => &self.by_id,
            Rank::Alias => &self.by_alias,
        }
    }

    fn of_mut(&mut self, rank: Rank) -> &mut BTreeSet<Arc<str>> {
        match rank {
            Rank::Name => &mut self.by_name,
            Rank::Id => &mut self.by_id,
            Rank::Alias => &mut self.by_alias,
        }
    }

    fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.by_id.is_empty() && self.by_alias.is_empty()
    }
}
