//! Addresses: which range a network gets, which block of it a node, which address a container. Pure functions of what is taken.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use wharf_model::{FleetNetwork, NodeId};

/// Ranges for networks that ask for none, all of one size: `10.192.0.0/11:16` is every /16 of 10.192.0.0/11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What ranges are cut from.
    pub base: Ipv4Net,
    /// The length of a range's prefix.
    pub size: u8,
}

/// Why a text is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pool of ranges: want BASE:SIZE such as 10.192.0.0/11:16, with SIZE from the base's prefix length to 28"
)]
pub struct ParsePoolError(String);

impl std::str::FromStr for Pool {
    type Err = ParsePoolError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParsePoolError(text.to_owned());
        let (base, size) = text.split_once(':').ok_or_else(bad)?;
        let (base, size): (Ipv4Net, u8) = (base.parse().map_err(|_| bad())?, size.parse().map_err(|_| bad())?);
        let pool = Self { base: base.trunc(), size };
        if size < base.prefix_len() || size > 28 { Err(bad()) } else { Ok(pool) }
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.base, self.size)
    }
}

/// The pools that are used where the operator names none: 31 large networks and one block for the nodes' own addresses, then
/// 512 of a size that does for 32 nodes.
pub fn default_pools() -> Vec<Pool> {
    let net = |third, prefix| Ipv4Net::new_assert(Ipv4Addr::new(10, third, 0, 0), prefix);
    vec![Pool { base: net(192, 11), size: 16 }, Pool { base: net(224, 11), size: 20 }]
}

/// The block that nodes' own addresses on the tunnels are of: the first of the first pool.
pub fn node_block(pools: &[Pool]) -> Option<Ipv4Net> {
    pools.first().and_then(|pool| Ipv4Net::new(pool.base.network(), pool.size).ok())
}

/// A node's own address on the tunnels; `None` if the block is too small for its number.
pub fn node_address(pools: &[Pool], node: NodeId) -> Option<Ipv4Addr> {
    let block = node_block(pools)?;
    let address = Ipv4Addr::from(u32::from(block.network()).checked_add(node.0)?);
    (block.contains(&address) && address != block.broadcast()).then_some(address)
}

/// Whether two ranges have an address in common.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The first range of the pools that overlaps with nothing that is taken; `None` if they are exhausted.
pub fn free_range(pools: &[Pool], taken: &[IpNet]) -> Option<Ipv4Net> {
    let nodes = node_block(pools)?.into();
    let mut ranges = pools.iter().flat_map(|pool| pool.base.subnets(pool.size).into_iter().flatten());
    ranges.find(|range| {
        let range = IpNet::from(*range);
        !overlap(&range, &nodes) && !taken.iter().any(|taken| overlap(&range, taken))
    })
}

/// The first block of a network that no node has; `None` if all have an owner.
pub fn free_slice(network: &FleetNetwork) -> Option<Ipv4Net> {
    let mut blocks = network.pool().subnets(network.slice_prefix()).ok()?;
    // A range of four addresses has one block, which is worth as much as what can be assigned of it.
    blocks.find(|block| !network.slices.contains_key(block))
}

/// The block of a network that an address is of, if it is one that slices are cut from.
pub fn slice_around(network: &FleetNetwork, address: Ipv4Addr) -> Option<Ipv4Net> {
    let block = Ipv4Net::new(address, network.slice_prefix()).ok()?.trunc();
    network.pool().contains(&block).then_some(block)
}

/// An address of one of a node's slices that nobody has; `None` if they are full. Those after `last` come first: an address
/// that was freed just now is still in somebody's mind.
pub fn free_address(
    network: &FleetNetwork,
    node: NodeId,
    last: Option<Ipv4Addr>,
    is_taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let all = || {
        network.slices_of(node).flat_map(|slice| {
            let left = FleetNetwork::left_to_engine(slice);
            // What engines give of themselves is theirs, where a slice is large enough to be divided.
            slice.hosts().filter(move |address| left == slice || !left.contains(address))
        })
    };
    let free = |address: &Ipv4Addr| network.is_assignable(*address) && !is_taken(*address);
    let after = last.and_then(|last| all().filter(|address| *address > last).find(free));
    after.or_else(|| all().find(free))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use wharf_model::NetworkId;

    use super::*;

    fn network(range: Ipv4Net) -> FleetNetwork {
        FleetNetwork::new(NetworkId::MIN, "blue", range, 1370)
    }

    #[test]
    fn pools_are_read_and_refused() {
        assert_eq!("10.192.0.0/11:16".parse::<Pool>().unwrap(), default_pools()[0]);
        for text in ["10.192.0.0/11", "10.192.0.0/11:8", "10.192.0.0/11:29", "x:16", "10.0.0.0/33:16"] {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_get_ranges_until_the_pools_are_exhausted() {
        let mut taken = vec!["10.193.0.0/16".parse().unwrap(), "10.194.7.0/24".parse().unwrap()];
        assert_eq!(free_range(&default_pools(), &taken), Some("10.195.0.0/16".parse().unwrap()));
        let mut count = 0;
        while let Some(range) = free_range(&default_pools(), &taken) {
            assert!(!taken.iter().any(|taken| overlap(taken, &range.into())));
            taken.push(range.into());
            count += 1;
        }
        assert_eq!(count, 31 - 2 + 512);
    }

    #[test]
    fn nodes_have_addresses_of_their_own() {
        let pools = default_pools();
        assert_eq!(node_address(&pools, NodeId(258)), Some("10.192.1.2".parse().unwrap()));
        assert_eq!(node_address(&pools, NodeId(65_535)), None, "the broadcast address");
        assert_eq!(node_address(&pools, NodeId(70_000)), None);
    }

    #[test]
    fn a_freed_address_is_not_the_next_to_be_given() {
        let mut blue = network("10.0.0.0/16".parse().unwrap());
        blue.slices.insert("10.0.0.0/25".parse().unwrap(), NodeId(1));
        let last = "10.0.0.5".parse().unwrap();
        assert_eq!(free_address(&blue, NodeId(1), Some(last), |_| false), Some("10.0.0.6".parse().unwrap()));
        assert_eq!(free_address(&blue, NodeId(1), None, |_| false), Some("10.0.0.2".parse().unwrap()));
        let last = "10.0.0.95".parse().unwrap();
        assert_eq!(free_address(&blue, NodeId(1), Some(last), |_| false), Some("10.0.0.2".parse().unwrap()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Give(u32),
        Free(usize),
        Leave(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..5u32).prop_map(Step::Give),
            2 => (0..200usize).prop_map(Step::Free),
            1 => (1..5u32).prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Whatever comes and goes: no address is had twice, each lies in a slice of its node, and no block has two owners.
        #[test]
        fn no_address_and_no_block_is_given_twice(prefix in 16..=30u8, steps in proptest::collection::vec(step(), 1..300)) {
            let mut network = network(Ipv4Net::new("10.9.0.0".parse().unwrap(), prefix).unwrap());
            let mut given: Vec<(Ipv4Addr, NodeId)> = Vec::new();
            let mut last = None;
            for step in steps {
                match step {
                    Step::Give(node) => {
                        let node = NodeId(node);
                        let taken: BTreeSet<_> = given.iter().map(|(address, _)| *address).collect();
                        let found = free_address(&network, node, last, |address| taken.contains(&address));
                        let Some(address) = found else {
                            let Some(slice) = free_slice(&network) else { continue };
                            prop_assert!(network.range.contains(&slice) && network.slices.insert(slice, node).is_none());
                            prop_assert!(network.slices.keys().filter(|other| overlap(&IpNet::from(**other), &slice.into())).count() == 1);
                            continue;
                        };
                        prop_assert!(!taken.contains(&address));
                        prop_assert_eq!(network.slice_with(address).map(|(_, owner)| owner), Some(node));
                        prop_assert!(network.gateway_on(node) != Some(address));
                        given.push((address, node));
                        last = Some(address);
                    }
                    Step::Free(index) if index < given.len() => drop(given.swap_remove(index)),
                    Step::Leave(node) if !given.iter().any(|(_, owner)| owner.0 == node) => {
                        network.slices.retain(|_, owner| owner.0 != node);
                    }
                    _ => {}
                }
            }
        }
    }
}
