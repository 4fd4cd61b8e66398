//! What the fleet's networks know by name: networks and containers go in, answers come out. No I/O.
//!
//! Every answer is scoped to the container that asks: it sees the names of its own networks, and no others.

mod gone;
mod index;
mod lookup;
#[cfg(test)]
mod properties;
mod question;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use hickory_proto::rr::RecordType;
use ipnet::IpNet;
use tokio::time::Instant;

use self::{index::Index, lookup::Lookup};

/// The id of a fleet network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub Arc<str>);

/// A network of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Which one.
    pub id: NetworkId,
    /// What users call it: `NAME.NETWORK` ends in it.
    pub name: Arc<str>,
    /// All its addresses, on whatever node: a range of IPv4, perhaps another of IPv6.
    pub ranges: Vec<IpNet>,
}

/// A container of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its full id, 64 hexadecimal digits.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Whether it runs: the names of others are known, but stand for no address.
    pub up: bool,
    /// Further addresses by which it may ask: those on Docker's local bridges. Only for containers of this node, since
    /// every node has the same ones.
    pub local_addresses: Vec<IpAddr>,
    /// The name servers that its user gave (`--dns`), asked instead of the host's. Often none.
    pub upstreams: Vec<IpAddr>,
    /// The fleet networks it is on. Where a name means something on several, the first that knows it answers.
    pub endpoints: Vec<Endpoint>,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The network. Until the table has it, nobody sees the endpoint.
    pub network: NetworkId,
    /// The container's addresses there, of either family.
    pub addresses: Vec<IpAddr>,
    /// Its further names there; a name that several share is a service, and they are its replicas.
    pub aliases: Vec<Arc<str>>,
    /// Its own names for others: the other's name or id, and the alias, which nobody else sees.
    pub links: Vec<(Arc<str>, Arc<str>)>,
}

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Whoever asks is no container of ours: REFUSED, since an open resolver serves attackers.
    Refused,
    /// The name is known, or was until just now, and stands for nobody: NXDOMAIN, with authority.
    Gone,
    /// With authority. No data at all means that the name has none of that type.
    Data {
        /// The records, in random order.
        data: Vec<Data>,
        /// Whether some of them will do.
        need: Need,
    },
    /// No name of ours: to be asked elsewhere, for that container.
    Forward(Arc<Container>),
}

/// Whether an answer may be cut to what fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Any of the records serves the asker.
    Any,
    /// The asker wants to know all of them.
    All,
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// PTR: the name.
    Name(String),
    /// SRV (RFC 2782), with what the target's own name would resolve to.
    Service {
        /// The port that was asked for.
        port: u16,
        /// The replica.
        target: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
}

/// The names of the fleet, as far as this node knows them. Readers and writers hold its lock for one question or one
/// change, each of which costs what it touches and not what the table holds.
#[derive(Default)]
pub struct Table {
    index: RwLock<Index>,
}

// === impl Table ===

impl Table {
    /// A table without networks and containers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a network, or changes the one with its id.
    pub fn put_network(&self, network: Network) {
        self.write().put_network(network);
    }

    /// Forgets a network and what it knew. Endpoints on it come back with it.
    pub fn drop_network(&self, id: &NetworkId) {
        self.write().drop_network(id);
    }

    /// Adds a container, or changes the one with its id. `now` is when names that it had are gone.
    pub fn put_container(&self, container: Container, now: Instant) {
        self.write().put_container(container, now);
    }

    /// Forgets a container. Its names are known to be gone for a while from `now`.
    pub fn drop_container(&self, id: &str, now: Instant) {
        self.write().drop_container(id, now);
    }

    /// The container that asks from an address.
    pub fn asker(&self, source: IpAddr) -> Option<Arc<Container>> {
        self.read().asker(source).cloned()
    }

    /// What to tell whoever asks from `source` about `name`: labels with dots between, in any case, with or without the
    /// last dot. `seed` shuffles what comes.
    pub fn resolve(&self, source: IpAddr, name: &str, wanted: RecordType, now: Instant, seed: u64) -> Answer {
        let index = self.read();
        match index.asker(source) {
            Some(asker) => Lookup::new(&index, asker, now, seed).answer(name, wanted),
            None => Answer::Refused,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        // No change leaves the index half done where it could panic, so what a panic left is as good as ever.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.read();
        formatter
            .debug_struct("Table")
            .field("networks", &index.networks.len())
            .field("containers", &index.containers.len())
            .finish()
    }
}

// === impl NetworkId ===

impl fmt::Display for NetworkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<&str> for NetworkId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}
