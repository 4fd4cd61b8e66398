use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr, sync::Arc};

use imbl::OrdMap;
use ipnet::IpNet;

use crate::{
    Attachment, Container, ContainerId, Endpoint, ImageId, Labels, Load, NetworkId, NodeId, Resources, Timestamp,
};

/// A host of the fleet and what is known of its engine.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number, which it keeps for as long as it belongs to the fleet.
    pub id: NodeId,
    /// Where its engine is reached.
    pub endpoint: Endpoint,
    /// Its name, unique in the fleet: the host's name, or the endpoint's address before the first contact.
    pub name: Arc<str>,
    /// What its engine said of itself; `None` before the first contact.
    pub engine: Option<Arc<Engine>>,
    /// Labels that the fleet's operator gave it.
    pub labels: Arc<BTreeMap<Box<str>, Box<str>>>,
    /// How it is.
    pub health: Health,
    /// The last failure to reach or to read it, for people; `None` while all is well.
    pub error: Option<Arc<str>>,
    /// Its agent; `None` if it never had one.
    pub agent: Option<Arc<Agent>>,
    /// When this was last brought up to date by the manager's clock.
    pub updated: Timestamp,
    /// Its containers.
    pub containers: OrdMap<ContainerId, Arc<Container>>,
    /// What its containers take; kept by the snapshot.
    pub(crate) load: Load,
    /// How many containers its labels let it have; kept by the snapshot.
    pub(crate) slots: Option<usize>,
    /// Its images.
    pub images: Few<ImageId, Image>,
    /// Its networks.
    pub networks: Few<NetworkId, Network>,
    /// Its volumes, by name.
    pub volumes: Few<Arc<str>, Volume>,
}

/// Things of which a node has few, and which are listed as a whole. A persistent map would take kilobytes for each of thousands of
/// nodes.
pub type Few<K, V> = Arc<BTreeMap<K, Arc<V>>>;

impl Node {
    /// A node that has been discovered and not yet been reached.
    pub fn pending(id: NodeId, endpoint: Endpoint, now: Timestamp) -> Self {
        let name = endpoint.address().into();
        Self {
            id,
            endpoint,
            name,
            engine: None,
            labels: Arc::default(),
            health: Health::Pending,
            error: None,
            agent: None,
            updated: now,
            containers: OrdMap::new(),
            load: Load::default(),
            slots: None,
            images: Arc::default(),
            networks: Arc::default(),
            volumes: Arc::default(),
        }
    }

    /// Whether it answers, and containers may be placed on it.
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Healthy
    }

    /// Whether it has an agent that wires its containers to those of other nodes.
    pub fn has_agent(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.connected)
    }

    /// The fleet network that a network of this node's engine is a part of.
    pub fn fleet_network(&self, attachment: &Attachment) -> Option<NetworkId> {
        let by_id = attachment.id.and_then(|id| self.networks.get(&id));
        let network = by_id.or_else(|| self.networks.values().find(|network| network.name == attachment.name))?;
        network.fleet
    }

    /// The part that this node's engine has of a fleet network.
    pub fn part_of(&self, network: NetworkId) -> Option<&Arc<Network>> {
        self.networks.values().find(|part| part.fleet == Some(network))
    }

    /// What its containers take, without those that are only promised yet.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What a label of it says: one that its engine's facts make ([`BUILT_IN_LABELS`]), else the operator's, else its
    /// engine's own.
    pub fn label(&self, key: &str) -> Option<&str> {
        let of_engine = || self.engine.as_ref()?.labels.get(key);
        let found = if BUILT_IN_LABELS.contains(&key) { of_engine() } else { self.labels.get(key).or_else(of_engine) };
        found.map(|value| &**value)
    }

    /// How many containers it may have, by its label [`SLOTS_LABEL`]. Placement asks this of every node, and has no time to
    /// look into labels.
    pub fn slots(&self) -> Option<usize> {
        self.slots
    }

    /// All of its labels and what they say, in the order of their keys.
    pub fn all_labels(&self) -> BTreeMap<&str, &str> {
        let of_engine = self.engine.iter().flat_map(|engine| engine.labels.keys());
        let keys = self.labels.keys().chain(of_engine);
        keys.filter_map(|key| Some((&**key, self.label(key)?))).collect()
    }

    /// The address that a port published on all of its addresses is reached at; `None` for an engine of this machine.
    pub fn host(&self) -> Option<&str> {
        self.endpoint.host()
    }
}

/// The label that says how many containers a node may have; one that is no number says nothing.
pub const SLOTS_LABEL: &str = "containerslots";

/// Labels that every engine has, made of what it says of itself.
pub const BUILT_IN_LABELS: [&str; 5] = ["storagedriver", "kernelversion", "operatingsystem", "ostype", "architecture"];

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Discovered, not yet reached, or not yet read.
    Pending,
    /// Answers.
    Healthy,
    /// Was read once and does not answer now.
    Unhealthy,
}

impl Health {
    /// Its name in `docker info`, as the predecessor has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Healthy => "Healthy",
            Self::Unhealthy => "Unhealthy",
        }
    }
}

/// What a node's agent said of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Whether it is connected now.
    pub connected: bool,
    /// Its version.
    pub version: Box<str>,
    /// The host's address that tunnels lead to.
    pub underlay: IpAddr,
    /// The largest packet that the host's own network carries, in bytes.
    pub underlay_mtu: u32,
    /// The public half of the key of the host's encrypted tunnel, in base64; empty if it has none.
    pub key: Box<str>,
    /// The host's own DNS servers.
    pub resolvers: Vec<IpAddr>,
    /// Where the host's own routes lead.
    pub routes: Vec<IpNet>,
    /// By how many seconds its clock is ahead of the manager's.
    pub clock_skew: i64,
    /// What it could not do, for people.
    pub problems: Vec<Box<str>>,
}

/// What an engine says of itself (`GET /info`, `GET /version`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its id. Cloned hosts may share one: a node's identity does not rest on it.
    pub id: Box<str>,
    /// The host's name.
    pub hostname: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// The newest API version that it speaks.
    pub api: ApiVersion,
    /// The oldest API version that it speaks.
    pub min_api: ApiVersion,
    /// What its host has.
    pub total: Resources,
    /// Whether it keeps its networks apart with nftables, where no rule of another program's can let anything in.
    pub nftables: bool,
    /// Its own labels and the built-in ones (`storagedriver`, `kernelversion`, `operatingsystem`, `ostype`,
    /// `architecture`), which they cannot override.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// A version of Docker's API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The number before the point.
    pub major: u16,
    /// The number after it.
    pub minor: u16,
}

impl ApiVersion {
    /// `major.minor`
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a text is not an API version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an API version such as 1.41")]
pub struct ParseApiVersionError(String);

impl FromStr for ApiVersion {
    type Err = ParseApiVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| ParseApiVersionError(text.to_owned()))
    }
}

/// An image on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its names, `repository:tag`.
    pub tags: Vec<Box<str>>,
    /// Its names by digest, `repository@digest`.
    pub digests: Vec<Box<str>>,
    /// When it was built.
    pub created: Timestamp,
    /// When it last got a name on this node: where nodes disagree about a name, the latest wins. `None` until it was asked for.
    pub tagged: Option<Timestamp>,
    /// Its labels.
    pub labels: Labels,
    /// Its entry of `GET /images/json`, as the engine gave it.
    pub entry: Box<str>,
}

/// An engine's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name on its engine.
    pub name: Box<str>,
    /// Its driver.
    pub driver: Box<str>,
    /// Its labels.
    pub labels: Labels,
    /// The fleet network that it is a part of.
    pub fleet: Option<NetworkId>,
    /// Its entry of `GET /networks`, as the engine gave it.
    pub entry: Box<str>,
}

/// The networks that every engine makes for itself.
pub const PREDEFINED_NETWORKS: [&str; 3] = ["bridge", "host", "none"];

impl Network {
    /// Whether the engine made it for itself: `bridge`, `host` and `none` exist on every node.
    pub fn is_predefined(&self) -> bool {
        PREDEFINED_NETWORKS.contains(&&*self.name)
    }
}

/// A volume of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name on its engine.
    pub name: Arc<str>,
    /// Its driver.
    pub driver: Box<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its entry of `GET /volumes`, as the engine gave it.
    pub entry: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::ApiVersion;

    #[test]
    fn api_versions_order_by_number_and_not_by_text() {
        let parse = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(parse("1.9") < parse("1.41"));
        assert_eq!(parse("1.41").to_string(), "1.41");
        assert!("1".parse::<ApiVersion>().is_err() && "1.x".parse::<ApiVersion>().is_err());
    }
}
