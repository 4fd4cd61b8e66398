//! Reads what the kernel has: links, addresses, routes, neighbours, forwarding entries, settings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::{Stream, TryStreamExt};
use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::wire::host::read_setting;
use crate::wire::problem::{Problem, io_error};
use crate::wire::step::Mac;
use crate::wire::wish::{BRIDGE_PREFIX, PLAIN_TUNNEL, ROUTE_PROTOCOL, SECURE_TUNNEL};

/// The kernel's state, as far as it concerns a wish.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) links: BTreeMap<String, Link>,
    /// The IPv4 addresses of our tunnel devices, by device.
    pub(crate) addresses: BTreeMap<String, BTreeSet<Ipv4Net>>,
    /// The IPv4 routes of the main table.
    pub(crate) routes: Vec<KernelRoute>,
    /// The permanent neighbours on the VXLAN device.
    pub(crate) neighbours: BTreeMap<Ipv4Addr, Vec<u8>>,
    /// The forwarding entries of the VXLAN device.
    pub(crate) forwarding: BTreeSet<(Mac, Option<Ipv4Addr>)>,
    /// The kernel settings of our bridges and devices that exist.
    pub(crate) settings: BTreeMap<String, String>,
    /// What [`bridge_settings`] are to be on a bridge that is given back.
    pub(crate) bridge_defaults: [String; 2],
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
    pub(crate) to: Ipv4Net,
    pub(crate) ours: bool,
    pub(crate) device: Option<u32>,
    pub(crate) via: Option<Ipv4Addr>,
    pub(crate) source: Option<Ipv4Addr>,
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
    observed.addresses = addresses(handle, &observed.links).await.map_err(unreadable("the addresses"))?;
    observed.routes = routes(handle).await.map_err(unreadable("the routes"))?;
    if let Some(tunnel) = observed.links.get(PLAIN_TUNNEL) {
        observed.neighbours = neighbours(handle, tunnel.index).await.map_err(unreadable("the neighbours"))?;
        observed.forwarding = forwarding(handle, tunnel.index).await.map_err(unreadable("the forwarding entries"))?;
    }
    observed.settings = settings(&observed.links);
    observed.bridge_defaults = bridge_defaults();
    Ok(observed)
}

fn unreadable(what: &'static str) -> impl Fn(io::Error) -> Problem {
    move |source| Problem::Unreadable { what, source }
}

/// The settings of a bridge that lets containers reach the whole range as if it were on their link.
pub(crate) fn bridge_settings(bridge: &str) -> [String; 2] {
    [format!("net/ipv4/conf/{bridge}/proxy_arp"), format!("net/ipv4/neigh/{bridge}/proxy_delay")]
}

/// The settings of a bridge that is none of ours any more: what the namespace gives a new device.
fn bridge_defaults() -> [String; 2] {
    let [proxy, delay] = bridge_settings("default");
    // A namespace made later than the machine's own shows no defaults for neighbours: they are the kernel's.
    [(proxy, "0"), (delay, KERNEL_PROXY_DELAY)]
        .map(|(key, kernel)| read_setting(&key).unwrap_or_else(|| kernel.to_owned()))
}

/// `proxy_delay` of a new device, in hundredths of a second (arp(7)).
const KERNEL_PROXY_DELAY: &str = "80";

/// The settings of a tunnel device: the check of source addresses, and IPv6, which no rule of ours guards.
pub(crate) fn tunnel_settings(tunnel: &str) -> [String; 2] {
    [format!("net/ipv4/conf/{tunnel}/rp_filter"), format!("net/ipv6/conf/{tunnel}/disable_ipv6")]
}

/// Whether the kernel forwards IPv4 at all.
pub(crate) const FORWARDING_SETTING: &str = "net/ipv4/ip_forward";

fn settings(links: &BTreeMap<String, Link>) -> BTreeMap<String, String> {
    let bridges = links.keys().filter(|name| name.starts_with(BRIDGE_PREFIX)).flat_map(|name| bridge_settings(name));
    let tunnels = [PLAIN_TUNNEL, SECURE_TUNNEL].into_iter().filter(|name| links.contains_key(*name));
    let keys = bridges.chain(tunnels.flat_map(tunnel_settings)).chain([FORWARDING_SETTING.to_owned()]);
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

/// An IPv4 address with the length of its network, and the index of its device.
fn address_of(message: &AddressMessage) -> Option<(u32, Ipv4Net)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((message.header.index, Ipv4Net::new(local, message.header.prefix_len).ok()?))
}

/// All IPv4 addresses of the namespace with the index of their devices.
pub(crate) async fn all_addresses(handle: &Handle) -> io::Result<Vec<(u32, Ipv4Net)>> {
    Ok(collect(handle.address().get().execute()).await?.iter().filter_map(address_of).collect())
}

async fn addresses(handle: &Handle, links: &BTreeMap<String, Link>) -> io::Result<BTreeMap<String, BTreeSet<Ipv4Net>>> {
    let mut of_tunnels: BTreeMap<String, BTreeSet<Ipv4Net>> = BTreeMap::new();
    for (index, address) in all_addresses(handle).await? {
        for name in [PLAIN_TUNNEL, SECURE_TUNNEL] {
            if links.get(name).is_some_and(|link| link.index == index) {
                of_tunnels.entry(name.to_owned()).or_default().insert(address);
            }
        }
    }
    Ok(of_tunnels)
}

/// The IPv4 routes of the main table.
pub(crate) async fn routes(handle: &Handle) -> io::Result<Vec<KernelRoute>> {
    let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
    Ok(collect(handle.route().get(every).execute()).await?.iter().filter_map(route_of).collect())
}

fn route_of(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.address_family != AddressFamily::Inet {
        return None;
    }
    let mut route = KernelRoute {
        to: Ipv4Net::new(Ipv4Addr::UNSPECIFIED, header.destination_prefix_length).ok()?,
        ours: header.protocol == RouteProtocol::from(ROUTE_PROTOCOL),
        device: None,
        via: None,
        source: None,
        metric: 0,
        unicast: header.kind == RouteType::Unicast,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(to)) => {
                route.to = Ipv4Net::new(*to, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Oif(index) => route.device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(via)) => route.via = Some(*via),
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => route.source = Some(*source),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}

/// The link layer address and the destination of a neighbour or forwarding entry.
fn entry_of(message: &NeighbourMessage) -> (Option<Vec<u8>>, Option<Ipv4Addr>) {
    let mut entry = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => entry.0 = Some(mac.clone()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => entry.1 = Some(*address),
            // A forwarding entry's destination has no family of its own to be parsed by.
            NeighbourAttribute::Destination(NeighbourAddress::Other(octets)) => {
                entry.1 = <[u8; 4]>::try_from(octets.as_slice()).ok().map(Ipv4Addr::from);
            }
            _ => {}
        }
    }
    entry
}

async fn neighbours(handle: &Handle, tunnel: u32) -> io::Result<BTreeMap<Ipv4Addr, Vec<u8>>> {
    let all = collect(handle.neighbours().get().set_address_family(AddressFamily::Inet).execute()).await?;
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

async fn forwarding(handle: &Handle, tunnel: u32) -> io::Result<BTreeSet<(Mac, Option<Ipv4Addr>)>> {
    let all = collect(handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute()).await?;
    let ours = all.iter().filter(|message| message.header.ifindex == tunnel);
    Ok(ours
        .filter_map(|message| {
            let (mac, to) = entry_of(message);
            Some((Mac(mac?.try_into().ok()?), to))
        })
        .collect())
}
