//! What the kernel of a node is to look like, as the manager and the agent agree on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::wire::problem::Problem;

/// The VXLAN device: packets between nodes as they are.
pub const PLAIN_TUNNEL: &str = "wharf0";
/// The encrypted device: an IP-only (L3) tunnel that another part of the agent makes.
pub const SECURE_TUNNEL: &str = "wharf1";
/// Bridges of fleet networks are named with this, so that one rule matches all of them (`wh-+`).
pub const BRIDGE_PREFIX: &str = "wh-";
/// The VXLAN network identifier (RFC 7348): one for the whole fleet, as the routes keep networks apart. "WHA" in ASCII.
pub const TUNNEL_VNI: u32 = 0x57_4841;
/// The protocol number that marks our routes in the kernel's table: none of `/etc/iproute2/rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 87;
/// The longest name that the kernel gives an interface (`IFNAMSIZ` less the closing zero).
const INTERFACE_NAME_LIMIT: usize = 15;

/// All that the kernel of one node is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// This node's own address on the tunnels; set as a /32.
    pub tunnel_address: Ipv4Addr,
    /// The VXLAN device's local address: the node's own on the network that joins the nodes.
    pub underlay: Ipv4Addr,
    /// The largest packet that [`PLAIN_TUNNEL`] carries, in bytes. ([`SECURE_TUNNEL`]'s is set by who makes it.)
    pub mtu: u32,
    /// The UDP port of the VXLAN device.
    pub vxlan_port: u16,
    /// The UDP port of the encrypted tunnel, to be let in where there is one.
    pub secure_port: Option<u16>,
    /// The other nodes, by a number that [`Network::remote`] names them with.
    pub peers: BTreeMap<u32, Peer>,
    /// The fleet networks that this node takes part in, by id.
    pub networks: BTreeMap<String, Network>,
    /// Further interfaces (`docker0`, …) from which DNS queries to this host are let in.
    pub dns_bridges: BTreeSet<String>,
}

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its own address on the tunnels.
    pub tunnel_address: Ipv4Addr,
    /// Where its VXLAN packets are sent to and come from.
    pub underlay: Ipv4Addr,
}

/// One fleet network, as this node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The engine's bridge of this network, named [`BRIDGE_PREFIX`] and more.
    pub bridge: String,
    /// The addresses of the whole network; on-link on the bridge.
    pub range: Ipv4Net,
    /// Its IPv6 addresses, if it has any; on-link on the bridge, too.
    pub range6: Option<Ipv6Net>,
    /// Whether its containers reach nothing but each other.
    pub internal: bool,
    /// Whether it uses [`SECURE_TUNNEL`] rather than [`PLAIN_TUNNEL`].
    pub encrypted: bool,
    /// The slices of the ranges that are this node's own, and single addresses out of another's.
    pub own: Vec<IpNet>,
    /// The other nodes' slices and single addresses, each with the number of its node in [`Wish::peers`].
    pub remote: BTreeMap<IpNet, u32>,
    /// The IPv6 addresses of other nodes' containers: the bridge answers for each, as the kernel does so for single
    /// addresses only (`proxy_ndp`), where it does for all that it has a route to with IPv4 (`proxy_arp`).
    pub neighbours: BTreeSet<Ipv6Addr>,
}

/// One of the two kinds of addresses; the kernel keeps tables of its own for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Whether a block is of it.
    pub(crate) fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

impl Network {
    /// The device that carries this network between nodes.
    pub(crate) fn tunnel(&self) -> &'static str {
        if self.encrypted { SECURE_TUNNEL } else { PLAIN_TUNNEL }
    }

    /// All of its addresses that are of a family, if it has such.
    pub(crate) fn range_of(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => Some(self.range.into()),
            Family::V6 => self.range6.map(IpNet::from),
        }
    }

    /// Our own addresses that lie inside another node's slice: the slice's route would send them there.
    pub(crate) fn own_inside_remote(&self) -> impl Iterator<Item = IpNet> {
        self.own.iter().copied().filter(|own| self.remote.keys().any(|remote| remote != own && remote.contains(own)))
    }

    /// Other nodes' addresses that lie inside a slice of ours.
    pub(crate) fn remote_inside_own(&self) -> impl Iterator<Item = IpNet> {
        self.remote.keys().copied().filter(|remote| self.own.iter().any(|own| own != remote && own.contains(remote)))
    }
}

/// The networks of a wish that can be made, and what is wrong with the others.
#[derive(Debug)]
pub(crate) struct Sound<'a> {
    pub(crate) networks: BTreeMap<&'a str, &'a Network>,
    pub(crate) dns_bridges: Vec<&'a str>,
    pub(crate) problems: Vec<Problem>,
}

impl Sound<'_> {
    /// Whether any network has addresses of a family.
    pub(crate) fn have(&self, family: Family) -> bool {
        self.networks.values().any(|network| network.range_of(family).is_some())
    }
}

impl Wish {
    /// Parts the networks that make sense from those that do not: names go into rule texts, so they are checked here
    /// once, and a broken network is left out as a whole rather than half made.
    pub(crate) fn sound(&self) -> Sound<'_> {
        let mut sound = Sound { networks: BTreeMap::new(), dns_bridges: Vec::new(), problems: Vec::new() };
        let mut bridges = BTreeSet::new();
        for (id, network) in &self.networks {
            let fault = fault_of(network).or_else(|| {
                (!bridges.insert(network.bridge.as_str())).then(|| "another network has the same bridge".to_owned())
            });
            match fault {
                Some(why) => sound.problems.push(Problem::InvalidNetwork { network: id.clone(), why }),
                None => drop(sound.networks.insert(id, network)),
            }
        }
        for name in &self.dns_bridges {
            if is_interface_name(name) {
                sound.dns_bridges.push(name);
            } else {
                sound.problems.push(Problem::InvalidInterface { name: name.clone() });
            }
        }
        sound
    }
}

/// Why a network cannot be made as it stands, if so.
fn fault_of(network: &Network) -> Option<String> {
    let bridge = &network.bridge;
    if !is_interface_name(bridge) || !bridge.starts_with(BRIDGE_PREFIX) {
        return Some(format!("`{bridge}` is no bridge name of the form {BRIDGE_PREFIX}…"));
    }
    let ranges: Vec<IpNet> =
        [Family::V4, Family::V6].into_iter().filter_map(|family| network.range_of(family)).collect();
    if let Some(range) = ranges.iter().find(|range| range.trunc() != **range) {
        return Some(format!("its range {range} has host bits set"));
    }
    let mut all = network.own.iter().chain(network.remote.keys());
    match all.find(|net| !ranges.iter().any(|range| range.contains(*net))) {
        Some(net) => Some(format!("{net} is outside of its range {}", network.range)),
        None => network
            .own
            .iter()
            .find(|own| network.remote.contains_key(own))
            .map(|own| format!("{own} is said to be both on this node and on another")),
    }
}

/// Whether the kernel and a rule text would both take this name as it stands.
fn is_interface_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=INTERFACE_NAME_LIMIT).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['-', '.'])
}

/// The hardware address of a node's VXLAN device: made from its tunnel address, so that no node has to tell it.
///
/// Locally administered (the 2 in the first octet), unicast.
#[must_use]
pub fn tunnel_mac(tunnel_address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = tunnel_address.octets();
    [0x02, 0x77, a, b, c, d]
}

/// Whether an address is one of those that [`tunnel_address6`] makes: engines give their bridges `fe80::1`, and what kernels
/// make of hardware addresses or by chance has no such half.
pub(crate) fn is_tunnel_address6(address: Ipv6Addr) -> bool {
    let [prefix @ .., high, low] = address.segments();
    prefix == [0xfe80, 0, 0, 0, 0, 0] && high >= 0x100 && (high, low) != (0xffff, 0xffff)
}

/// The address of a node's VXLAN device by which IPv6 routes name it: link-local, so that it needs no range of its own.
pub(crate) fn tunnel_address6(tunnel_address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(u32::from(tunnel_address)))
}
