use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{NetworkId, NodeId, Pairing, Timestamp};

/// The label by which an engine's network is known as a part of a fleet network; it says that network's id.
pub const FLEET_NETWORK_LABEL: &str = "wharf.network";

/// The label that says whose part it is: the fleet's id. Nobody removes the parts of another fleet.
pub const FLEET_LABEL: &str = "wharf.fleet";

/// The driver option of a container's endpoint in which the engine keeps what the client asked of it: `Aliases`, `Links` and
/// `IPAMConfig` as JSON. The engine is not to act on them: it would answer for its own containers alone.
pub const ENDPOINT_OPTION: &str = "wharf.endpoint";

/// The shortest prefix of a slice: 128 addresses are enough for most nodes, and a node may have several slices.
const LARGEST_SLICE: u8 = 25;

/// The longest prefix of a slice that is cut to leave room for others: 16 addresses.
const SMALLEST_SLICE: u8 = 28;

/// By how many bits slices of a small range are longer than it: sixteen nodes find room.
const SLICES_OF_SMALL_RANGES: u8 = 4;

/// A network that spans the fleet: one range of addresses, of which each node that needs it has slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetNetwork {
    /// Its id, as clients see it. Engines have ids of their own for their parts.
    pub id: NetworkId,
    /// Its name, unique in the fleet; the engines' parts have the same.
    pub name: Box<str>,
    /// The driver that was asked for: `overlay`, `bridge`, or nothing.
    pub driver: Box<str>,
    /// When it was created.
    pub created: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Its driver options, as they were asked for.
    pub options: BTreeMap<Box<str>, Box<str>>,
    /// All of its addresses.
    pub range: Ipv4Net,
    /// The part of the range that containers get addresses of, if not all of it.
    pub ip_range: Option<Ipv4Net>,
    /// The gateway that was asked for: every node answers to it, as packets to a gateway never leave the node. `None`: each
    /// node has one of its own, the first address of its first slice.
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv6 addresses, if it has any; see [`Pairing`] for who has which.
    pub range6: Option<Ipv6Net>,
    /// The IPv6 gateway that was asked for; `None`: what goes with each node's IPv4 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// Addresses that no container gets, by the names that they were given.
    pub reserved: BTreeMap<Box<str>, Ipv4Addr>,
    /// Whether its containers reach nothing else.
    pub internal: bool,
    /// Whether it was created with `--attachable`. Containers can join in any case.
    pub attachable: bool,
    /// Whether what it carries between hosts is encrypted.
    pub encrypted: bool,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Which node has which block of the range.
    pub slices: BTreeMap<Ipv4Net, NodeId>,
    /// The gateway of each node that has a slice: it stays while the engine has its part, whatever slices come to it.
    pub gateways: BTreeMap<NodeId, Ipv4Addr>,
}

impl FleetNetwork {
    /// A network that nothing was asked of but a name.
    pub fn new(id: NetworkId, name: &str, range: Ipv4Net, mtu: u32) -> Self {
        Self {
            id,
            name: name.into(),
            driver: "".into(),
            created: Timestamp::default(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            range,
            ip_range: None,
            gateway: None,
            range6: None,
            gateway6: None,
            reserved: BTreeMap::new(),
            internal: false,
            attachable: false,
            encrypted: false,
            mtu,
            slices: BTreeMap::new(),
            gateways: BTreeMap::new(),
        }
    }

    /// Which IPv6 address goes with which IPv4 address; `None` if it has none.
    pub fn pairing(&self) -> Option<Pairing> {
        Pairing::new(self.range, self.range6?)
    }

    /// The IPv6 address by which a node's containers reach it on this network.
    pub fn gateway6_on(&self, node: NodeId) -> Option<Ipv6Addr> {
        let pairing = self.pairing()?;
        self.gateway6.or_else(|| self.gateway_on(node).map(|gateway| pairing.six(gateway)))
    }

    /// The driver as clients see it.
    pub fn shown_driver(&self) -> &str {
        if self.driver.is_empty() { "overlay" } else { &self.driver }
    }

    /// What slices are cut from.
    pub fn pool(&self) -> Ipv4Net {
        self.ip_range.unwrap_or(self.range)
    }

    /// The length of a slice's prefix.
    pub fn slice_prefix(&self) -> u8 {
        let pool = self.pool().prefix_len();
        let cut = (pool + SLICES_OF_SMALL_RANGES).clamp(LARGEST_SLICE, SMALLEST_SLICE);
        // Of a handful of addresses no two slices can be made.
        cut.max(pool)
    }

    /// The slices of a node, in the order of their addresses.
    pub fn slices_of(&self, node: NodeId) -> impl Iterator<Item = Ipv4Net> {
        self.slices.iter().filter(move |(_, owner)| **owner == node).map(|(slice, _)| *slice)
    }

    /// The nodes that have a slice.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.slices.values().copied().collect()
    }

    /// The slice that an address is of, and whose it is.
    pub fn slice_with(&self, address: Ipv4Addr) -> Option<(Ipv4Net, NodeId)> {
        let (slice, node) = self.slices.range(..=Ipv4Net::from(address)).next_back()?;
        slice.contains(&address).then_some((*slice, *node))
    }

    /// The address by which a node's containers reach it on this network; `None` if it has no slice.
    pub fn gateway_on(&self, node: NodeId) -> Option<Ipv4Addr> {
        let first = self.slices_of(node).next()?;
        let kept = || self.gateways.get(&node).copied();
        Some(self.gateway.or_else(kept).unwrap_or_else(|| first.hosts().next().unwrap_or_else(|| first.network())))
    }

    /// Gives a node a slice.
    pub fn give(&mut self, slice: Ipv4Net, node: NodeId) {
        self.slices.insert(slice, node);
        if let Some(gateway) = self.gateway_on(node) {
            self.gateways.insert(node, gateway);
        }
    }

    /// Takes all slices of a node back.
    pub fn take_back(&mut self, node: NodeId) {
        self.slices.retain(|_, owner| *owner != node);
        self.gateways.remove(&node);
    }

    /// Whether a container may have this address: not one of the two ends of a block, which confuse programs that know only
    /// whole networks, and nobody's gateway.
    pub fn is_assignable(&self, address: Ipv4Addr) -> bool {
        let ends =
            |block: Ipv4Net| block.prefix_len() < 31 && (address == block.network() || address == block.broadcast());
        let in_slice = self.slice_with(address);
        self.range.contains(&address)
            && !ends(self.range)
            && self.gateway != Some(address)
            && (self.gateway6.is_none() || self.pairing().map(|pairing| pairing.six(address)) != self.gateway6)
            && !self.reserved.values().any(|reserved| *reserved == address)
            && in_slice.is_none_or(|(slice, node)| !ends(slice) && self.gateway_on(node) != Some(address))
    }

    /// The last quarter of a slice: what an engine gives of itself, to containers that are created behind Wharf's back.
    pub fn left_to_engine(slice: Ipv4Net) -> Ipv4Net {
        if slice.prefix_len() > 27 {
            return slice;
        }
        let last = slice.subnets(slice.prefix_len() + 2).ok().and_then(Iterator::last);
        last.unwrap_or(slice)
    }

    /// The name of its bridge on every node.
    pub fn bridge(&self) -> String {
        let id = self.id.short();
        format!("wh-{}", &id[..10])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(range: &str) -> FleetNetwork {
        FleetNetwork::new(NetworkId::from_bytes([0xab; 32]), "blue", range.parse().unwrap(), 1370)
    }

    #[test]
    fn slices_fit_their_range() {
        for (range, prefix) in [("10.0.0.0/8", 25), ("10.0.0.0/16", 25), ("10.0.0.0/22", 26), ("10.0.0.0/24", 28)] {
            assert_eq!(network(range).slice_prefix(), prefix, "{range}");
        }
        for (range, prefix) in [("10.0.0.0/26", 28), ("10.0.0.0/28", 28), ("10.0.0.0/30", 30)] {
            assert_eq!(network(range).slice_prefix(), prefix, "{range}");
        }
    }

    #[test]
    fn an_address_belongs_to_the_slice_around_it() {
        let mut blue = network("10.0.0.0/16");
        blue.slices.insert("10.0.0.0/25".parse().unwrap(), NodeId(1));
        blue.slices.insert("10.0.1.0/25".parse().unwrap(), NodeId(2));
        let owner = |address: &str| blue.slice_with(address.parse().unwrap()).map(|(_, node)| node.0);
        assert_eq!((owner("10.0.0.127"), owner("10.0.0.128"), owner("10.0.1.0")), (Some(1), None, Some(2)));
        assert_eq!(blue.gateway_on(NodeId(2)), Some("10.0.1.1".parse().unwrap()));
        let free = |address: &str| blue.is_assignable(address.parse().unwrap());
        assert!(free("10.0.0.2") && free("10.0.0.126") && free("10.0.9.0"));
        assert!(!free("10.0.0.0") && !free("10.0.0.1") && !free("10.0.0.127") && !free("10.1.0.2"));
    }

    #[test]
    fn a_bridge_has_a_name_that_links_may_have() {
        assert_eq!(network("10.0.0.0/16").bridge(), "wh-ababababab");
        let slice = FleetNetwork::left_to_engine("10.0.0.0/25".parse().unwrap());
        assert_eq!(slice, "10.0.0.96/27".parse().unwrap());
    }
}
