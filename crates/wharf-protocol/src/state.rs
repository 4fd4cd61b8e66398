//! What concerns one node, as its agent is told it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A line that a manager sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// What was told before is void: all of it follows, up to the next [`Update::Synced`].
    Reset,
    /// The agent's own node.
    Me(Me),
    /// Another node.
    Peer(u32, Peer),
    /// A node that has left the fleet.
    PeerGone(u32),
    /// A network that has a part on this node.
    Network(String, Network),
    /// A network that has no part here any more.
    NetworkGone(String),
    /// A container that is of this node, or on one of its networks.
    Container(String, Container),
    /// A container that no longer is.
    ContainerGone(String),
    /// The manager has not read these nodes yet: what is known of their containers from before still holds.
    Unread(BTreeSet<u32>),
    /// Everything up to here belongs together; the number grows.
    Synced(u64),
    /// The way to other nodes is to be tried.
    Probe(Probe),
    /// Nothing happened; the connection is alive.
    Alive,
}

use crate::host::Probe;

/// The agent's own node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Its number.
    pub node: u32,
    /// Its name.
    pub name: String,
    /// Its address on the tunnels.
    pub tunnel_address: Ipv4Addr,
    /// Interfaces, beside those of fleet networks, behind which containers ask for names.
    pub bridges: BTreeSet<String>,
    /// Addresses of this node, beside those of fleet networks, at which they ask.
    pub dns_addresses: BTreeSet<IpAddr>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address on the tunnels.
    pub tunnel_address: Ipv4Addr,
    /// The host's address that tunnels lead to.
    pub underlay: Ipv4Addr,
    /// The public half of its encrypted tunnel's key, in base64; empty if it has none.
    pub key: String,
}

/// A network that has a part on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// All of its addresses.
    pub range: Ipv4Net,
    /// Its IPv6 addresses, if it has any; they go in pairs with the others (`wharf_model::Pairing`).
    #[serde(default)]
    pub range6: Option<Ipv6Net>,
    /// The bridge that the engine makes for it.
    pub bridge: String,
    /// This node's gateway on it.
    pub gateway: Ipv4Addr,
    /// Whether its containers reach nothing else.
    pub internal: bool,
    /// Whether it is to be encrypted between hosts.
    pub encrypted: bool,
    /// The blocks of every node, by its number; and single addresses that a container of another node than the block's has.
    pub slices: BTreeMap<Ipv4Net, u32>,
}

/// A container as far as names and addresses go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its node's number.
    pub node: u32,
    /// Its name.
    pub name: String,
    /// Whether it runs, or is about to.
    pub up: bool,
    /// Addresses on networks of its node alone, from which it may ask for names.
    pub local: Vec<IpAddr>,
    /// The DNS servers that its user gave it; empty for the host's.
    pub dns: Vec<IpAddr>,
    /// How it is on fleet networks.
    pub endpoints: Vec<Endpoint>,
}

/// A container on a fleet network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// The container's address.
    pub address: IpAddr,
    /// Further names of it.
    pub aliases: Vec<String>,
    /// What it calls others: name or id, and alias.
    pub links: Vec<(String, String)>,
}

/// All that an agent was told. Applying every [`Update`] of a stream gives the same as what a new stream begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its own node; `None` before the first word.
    pub me: Option<Me>,
    /// The other nodes.
    pub peers: BTreeMap<u32, Peer>,
    /// The networks, by id.
    pub networks: BTreeMap<String, Network>,
    /// The containers, by id.
    pub containers: BTreeMap<String, Container>,
}

impl State {
    /// Takes in an update that changes the state; others change nothing.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Reset => *self = Self::default(),
            Update::Me(me) => self.me = Some(me),
            Update::Peer(node, peer) => drop(self.peers.insert(node, peer)),
            Update::PeerGone(node) => drop(self.peers.remove(&node)),
            Update::Network(id, network) => drop(self.networks.insert(id, network)),
            Update::NetworkGone(id) => drop(self.networks.remove(&id)),
            Update::Container(id, container) => drop(self.containers.insert(id, container)),
            Update::ContainerGone(id) => drop(self.containers.remove(&id)),
            Update::Unread(_) | Update::Synced(_) | Update::Probe(_) | Update::Alive => {}
        }
    }

    /// What leads from this state to another, so that applying it gives that one.
    pub fn difference(&self, to: &Self) -> Vec<Update> {
        let mut updates = Vec::new();
        if self.me != to.me {
            updates.extend(to.me.clone().map(Update::Me));
        }
        each(&self.peers, &to.peers, Update::Peer, Update::PeerGone, &mut updates);
        each(&self.networks, &to.networks, Update::Network, Update::NetworkGone, &mut updates);
        each(&self.containers, &to.containers, Update::Container, Update::ContainerGone, &mut updates);
        updates
    }

    /// Keeps what an earlier state knows of the containers of nodes that a manager has not read yet, where their networks
    /// are still known.
    pub fn keep_unread(&mut self, earlier: &Self, nodes: &BTreeSet<u32>) {
        for (id, container) in &earlier.containers {
            let of_network = container.endpoints.iter().any(|endpoint| self.networks.contains_key(&endpoint.network));
            if nodes.contains(&container.node) && of_network && !self.containers.contains_key(id) {
                self.containers.insert(id.clone(), container.clone());
            }
        }
    }
}

fn each<K: Ord + Clone, V: PartialEq + Clone>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    put: fn(K, V) -> Update,
    gone: fn(K) -> Update,
    updates: &mut Vec<Update>,
) {
    updates.extend(from.keys().filter(|key| !to.contains_key(key)).cloned().map(gone));
    let changed = to.iter().filter(|(key, value)| from.get(key) != Some(value));
    updates.extend(changed.map(|(key, value)| put(key.clone(), value.clone())));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container() -> impl Strategy<Value = Container> {
        (1..4u32, "[a-c]{1,2}", any::<bool>(), proptest::collection::vec("[mn]", 0..2)).prop_map(
            |(node, name, up, networks)| {
                let endpoint = |network| Endpoint {
                    network,
                    address: IpAddr::from([10, 0, 0, 2]),
                    aliases: vec!["web".to_owned()],
                    links: Vec::new(),
                };
                let endpoints = networks.into_iter().map(endpoint).collect();
                Container { node, name, up, local: Vec::new(), dns: Vec::new(), endpoints }
            },
        )
    }

    fn state() -> impl Strategy<Value = State> {
        proptest::collection::btree_map("[0-9]", container(), 0..6)
            .prop_map(|containers| State { containers, ..State::default() })
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_state_to_the_other(from in state(), to in state()) {
            let mut led = from.clone();
            for update in from.difference(&to) {
                let line = serde_json::to_string(&update).unwrap();
                led.apply(serde_json::from_str(&line).unwrap());
            }
            prop_assert_eq!(led, to);
        }
    }

    #[test]
    fn containers_of_nodes_that_are_not_read_yet_are_kept() {
        let container = |node| Container {
            node,
            name: "db".to_owned(),
            up: true,
            local: Vec::new(),
            dns: Vec::new(),
            endpoints: vec![Endpoint {
                network: "n".to_owned(),
                address: IpAddr::from([10, 0, 0, 2]),
                aliases: Vec::new(),
                links: Vec::new(),
            }],
        };
        let network = Network {
            name: "blue".to_owned(),
            range: "10.0.0.0/16".parse().unwrap(),
            range6: None,
            bridge: "wh-1".to_owned(),
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            internal: false,
            encrypted: false,
            slices: BTreeMap::new(),
        };
        let mut earlier = State::default();
        earlier.containers.insert("a".to_owned(), container(1));
        earlier.containers.insert("b".to_owned(), container(2));
        let mut now = State::default();
        now.networks.insert("n".to_owned(), network);
        now.keep_unread(&earlier, &BTreeSet::from([2]));
        assert_eq!(now.containers.keys().collect::<Vec<_>>(), ["b"]);
        now.networks.clear();
        now.containers.clear();
        now.keep_unread(&earlier, &BTreeSet::from([2]));
        assert!(now.containers.is_empty());
    }
}
