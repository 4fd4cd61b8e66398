//! Reads what the kernel has: links, addresses, routes, neighbours, forwarding entries, settings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, TryStreamExt};
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::wire::host::read_setting;
use crate::wire::problem::{Problem, io_error};
use crate::wire::step::Mac;
use crate::wire::wish::{BRIDGE_PREFIX, Family, PLAIN_TUNNEL, ROUTE_PROTOCOL, SECURE_TUNNEL};

/// The kernel's state, as far as it concerns a wish.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) links: BTreeMap<String, Link>,
    /// The IPv4 addresses of our tunnel devices, by device.
    pub(crate) addresses: BTreeMap<String, BTreeSet<Ipv4Net>>,
    /// The link-local addresses (IPv6), with the indexes of their devices.
    pub(crate) link_local: BTreeSet<(u32, Ipv6Addr)>,
    /// The routes of the main table.
    pub(crate) routes: Vec<KernelRoute>,
    /// The permanent neighbours on the VXLAN device.
    pub(crate) neighbours: BTreeMap<IpAddr, Vec<u8>>,
    /// The IPv6 addresses that devices answer for, with the devices' indexes.
    pub(crate) proxies: BTreeSet<(u32, Ipv6Addr)>,
    /// The forwarding entries of the VXLAN device.
    pub(crate) forwarding: BTreeSet<(Mac, Option<Ipv4Addr>)>,
    /// The kernel settings of our bridges and devices that exist.
    pub(crate) settings: BTreeMap<String, String>,
    /// What [`bridge_settings`] are to be on a bridge that is given back.
    pub(crate) bridge_defaults: [String; 4],
}

/// One network device.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Vec<u8>,
    pub(crate) vxlan: Option<VxlanLink>,
}

/// The parameters of a VXLAN device that cannot change while it lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VxlanLink {
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<Ipv4Addr>,
    pub(crate) learning: bool,
    /// Whether it sends what it knows no place for to a default destination.
    pub(crate) default_destination: bool,
}

/// One route of the main table.
#[derive(Debug, Clone)]
pub(crate) struct KernelRoute {
    pub(crate) to: IpNet,
    pub(crate) ours: bool,
    pub(crate) device: Option<u32>,
    pub(crate) via: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) metric: u32,
    pub(crate) unicast: bool,
}

impl Observed {
    /// The name of a device, for people.
    pub(crate) fn device_name(&self, index: Option<u32>) -> String {
        let by_index = |index| self.links.iter().find(|(_, link)| link.index == index).map(|(name, _)| name.clone());
        index.and_then(by_index).unwrap_or_else(|| "no device".to_owned())
    }
}

/// Reads everything that a wish may concern.
///
/// # Errors
/// The first dump that the kernel does not answer, as a plan over half a picture would remove what it cannot see.
pub(crate) async fn observe(handle: &Handle) -> Result<Observed, Problem> {
    let mut observed = Observed { links: links(handle).await.map_err(unreadable("the links"))?, ..Observed::default() };
    let addresses = all_addresses(handle).await.map_err(unreadable("the addresses"))?;
    observed.addresses = of_tunnels(&addresses, &observed.links);
    observed.link_local = addresses.iter().filter_map(link_local).collect();
    observed.routes = routes(handle).await.map_err(unreadable("the routes"))?;
    if let Some(tunnel) = observed.links.get(PLAIN_TUNNEL) {
        observed.neighbours = neighbours(handle, tunnel.index).await.map_err(unreadable("the neighbours"))?;
        observed.forwarding = forwarding(handle, tunnel.index).await.map_err(unreadable("the forwarding entries"))?;
    }
    if observed.links.keys().any(|name| name.starts_with(BRIDGE_PREFIX)) {
        observed.proxies = proxies(handle).await.map_err(unreadable("the addresses that bridges answer for"))?;
    }
    observed.settings = settings(&observed.links);
    observed.bridge_defaults = bridge_defaults();
    Ok(observed)
}

fn unreadable(what: &'static str) -> impl Fn(io::Error) -> Problem {
    move |source| Problem::Unreadable { what, source }
}

/// The settings of a bridge that lets containers reach the whole range as if it were on their link.
pub(crate) fn bridge_settings(bridge: &str) -> [String; 4] {
    [
        format!("net/ipv4/conf/{bridge}/proxy_arp"),
        format!("net/ipv4/neigh/{bridge}/proxy_delay"),
        format!("net/ipv6/conf/{bridge}/proxy_ndp"),
        format!("net/ipv6/neigh/{bridge}/proxy_delay"),
    ]
}

/// The settings of a bridge that is none of ours any more: what the namespace gives a new device.
fn bridge_defaults() -> [String; 4] {
    let [proxy, delay, proxy6, delay6] = bridge_settings("default");
    // A namespace made later than the machine's own shows no defaults for neighbours: they are the kernel's.
    [(proxy, "0"), (delay, KERNEL_PROXY_DELAY), (proxy6, "0"), (delay6, KERNEL_PROXY_DELAY)]
        .map(|(key, kernel)| read_setting(&key).unwrap_or_else(|| kernel.to_owned()))
}

/// `proxy_delay` of a new device, in hundredths of a second (arp(7)).
const KERNEL_PROXY_DELAY: &str = "80";

/// The settings of a tunnel device: the check of source addresses, and whether it has no IPv6.
pub(crate) fn tunnel_settings(tunnel: &str) -> [String; 2] {
    [format!("net/ipv4/conf/{tunnel}/rp_filter"), format!("net/ipv6/conf/{tunnel}/disable_ipv6")]
}

/// Whether the kernel forwards at all.
pub(crate) fn forwarding_setting(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

fn settings(links: &BTreeMap<String, Link>) -> BTreeMap<String, String> {
    let bridges = links.keys().filter(|name| name.starts_with(BRIDGE_PREFIX)).flat_map(|name| bridge_settings(name));
    let tunnels = [PLAIN_TUNNEL, SECURE_TUNNEL].into_iter().filter(|name| links.contains_key(*name));
    let forwarding = [Family::V4, Family::V6].map(|family| forwarding_setting(family).to_owned());
    let keys = bridges.chain(tunnels.flat_map(tunnel_settings)).chain(forwarding);
    keys.filter_map(|key| read_setting(&key).map(|value| (key, value))).collect()
}

async fn collect<T>(stream: impl Stream<Item = Result<T, rtnetlink::Error>>) -> io::Result<Vec<T>> {
    stream.map_err(io_error).try_collect().await
}

/// All devices of the namespace, by name.
pub(crate) async fn links(handle: &Handle) -> io::Result<BTreeMap<String, Link>> {
    Ok(collect(handle.link().get().execute()).await?.into_iter().filter_map(link_of).collect())
}

fn link_of(message: LinkMessage) -> Option<(String, Link)> {
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link { index: message.header.index, up, ..Link::default() };
    let mut name = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(mac) => link.mac = mac,
            LinkAttribute::LinkInfo(infos) => link.vxlan = vxlan_of(&infos),
            _ => {}
        }
    }
    Some((name?, link))
}

fn vxlan_of(infos: &[LinkInfo]) -> Option<VxlanLink> {
    infos.contains(&LinkInfo::Kind(InfoKind::Vxlan)).then_some(())?;
    let mut vxlan = VxlanLink::default();
    let data =
        infos.iter().find_map(|info| if let LinkInfo::Data(InfoData::Vxlan(data)) = info { Some(data) } else { None });
    for info in data.into_iter().flatten() {
        match info {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(local) => vxlan.local = Some(*local),
            InfoVxlan::Learning(learning) => vxlan.learning = *learning,
            InfoVxlan::Group(_) | InfoVxlan::Group6(_) => vxlan.default_destination = true,
            _ => {}
        }
    }
    Some(vxlan)
}

/// An address with the length of its network, and the index of its device.
fn address_of(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let of = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    };
    // IPv6 addresses have no other end, and so no attribute for this one.
    let only = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    let attributes = &message.attributes;
    let address = attributes.iter().find_map(of).or_else(|| attributes.iter().find_map(only))?;
    Some((message.header.index, IpNet::new(address, message.header.prefix_len).ok()?))
}

/// All addresses of the namespace with the index of their devices.
pub(crate) async fn all_addresses(handle: &Handle) -> io::Result<Vec<(u32, IpNet)>> {
    Ok(collect(handle.address().get().execute()).await?.iter().filter_map(address_of).collect())
}

fn of_tunnels(addresses: &[(u32, IpNet)], links: &BTreeMap<String, Link>) -> BTreeMap<String, BTreeSet<Ipv4Net>> {
    let mut of_tunnels: BTreeMap<String, BTreeSet<Ipv4Net>> = BTreeMap::new();
    for (index, address) in addresses {
        let IpNet::V4(address) = address else { continue };
        for name in [PLAIN_TUNNEL, SECURE_TUNNEL] {
            if links.get(name).is_some_and(|link| link.index == *index) {
                of_tunnels.entry(name.to_owned()).or_default().insert(*address);
            }
        }
    }
    of_tunnels
}

fn link_local((index, address): &(u32, IpNet)) -> Option<(u32, Ipv6Addr)> {
    let IpNet::V6(address) = address else { return None };
    address.addr().is_unicast_link_local().then(|| (*index, address.addr()))
}

/// The routes of the main table.
pub(crate) async fn routes(handle: &Handle) -> io::Result<Vec<KernelRoute>> {
    let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut messages = collect(handle.route().get(every).execute()).await?;
    let every = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let six = collect(handle.route().get(every).execute()).await?;
    // A kernel without IPv6 answers with all that it has.
    messages.extend(six.into_iter().filter(|message| message.header.address_family == AddressFamily::Inet6));
    Ok(messages.iter().filter_map(route_of).collect())
}

fn address_in(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn route_of(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    let everywhere: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    if header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut route = KernelRoute {
        to: IpNet::new(everywhere, header.destination_prefix_length).ok()?,
        ours: header.protocol == RouteProtocol::from(ROUTE_PROTOCOL),
        device: None,
        via: None,
        source: None,
        metric: 0,
        unicast: header.kind == RouteType::Unicast,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                route.to = IpNet::new(address_in(to)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Oif(index) => route.device = Some(*index),
            RouteAttribute::Gateway(via) => route.via = address_in(via),
            RouteAttribute::PrefSource(source) => route.source = address_in(source),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}

/// The link layer address and the destination of a neighbour or forwarding entry.
fn entry_of(message: &NeighbourMessage) -> (Option<Vec<u8>>, Option<IpAddr>) {
    let mut entry = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => entry.0 = Some(mac.clone()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => entry.1 = Some((*address).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => entry.1 = Some((*address).into()),
            // A forwarding entry's destination has no family of its own to be parsed by.
            NeighbourAttribute::Destination(NeighbourAddress::Other(octets)) => {
                entry.1 = <[u8; 4]>::try_from(octets.as_slice()).ok().map(IpAddr::from);
            }
            _ => {}
        }
    }
    entry
}

async fn neighbours(handle: &Handle, tunnel: u32) -> io::Result<BTreeMap<IpAddr, Vec<u8>>> {
    let mut all = collect(handle.neighbours().get().set_address_family(AddressFamily::Inet).execute()).await?;
    let six = collect(handle.neighbours().get().set_address_family(AddressFamily::Inet6).execute()).await?;
    all.extend(six.into_iter().filter(|message| message.header.family == AddressFamily::Inet6));
    let ours = all
        .iter()
        .filter(|message| message.header.ifindex == tunnel && message.header.state == NeighbourState::Permanent);
    Ok(ours
        .filter_map(|message| {
            let (mac, address) = entry_of(message);
            Some((address?, mac.unwrap_or_default()))
        })
        .collect())
}

async fn proxies(handle: &Handle) -> io::Result<BTreeSet<(u32, Ipv6Addr)>> {
    let all = collect(handle.neighbours().get().proxies().set_address_family(AddressFamily::Inet6).execute()).await?;
    let entries = all.iter().filter_map(|message| match entry_of(message).1 {
        Some(IpAddr::V6(address)) => Some((message.header.ifindex, address)),
        _ => None,
    });
    Ok(entries.collect())
}

async fn forwarding(handle: &Handle, tunnel: u32) -> io::Result<BTreeSet<(Mac, Option<Ipv4Addr>)>> {
    let all = collect(handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute()).await?;
    let ours = all.iter().filter(|message| message.header.ifindex == tunnel);
    Ok(ours
        .filter_map(|message| {
            let (mac, to) = entry_of(message);
            let to = to.and_then(|to| if let IpAddr::V4(to) = to { Some(to) } else { None });
            Some((Mac(mac?.try_into().ok()?), to))
        })
        .collect())
}
