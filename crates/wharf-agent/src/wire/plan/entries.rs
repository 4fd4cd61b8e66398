//! The steps for neighbours, forwarding entries, routes and the bridges' settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Plan;
use crate::wire::observe::{KernelRoute, Observed, bridge_settings, forwarding_setting};
use crate::wire::problem::Problem;
use crate::wire::step::{Mac, Route, Stale, Step};
use crate::wire::wish::{
    BRIDGE_PREFIX, Family, Network, PLAIN_TUNNEL, Sound, Wish, is_tunnel_address6, tunnel_address6, tunnel_mac,
};

/// A route that is wanted, and the network that wants it.
struct Wanted<'a> {
    route: Route,
    network: &'a str,
}

/// What is to be done so that the entries are as wished, with the devices as they are.
///
/// What is set comes before what is removed, so that an address whose block changes its shape always has a route.
pub(crate) fn entries(wish: &Wish, sound: &Sound<'_>, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    for family in [Family::V4, Family::V6] {
        let setting = forwarding_setting(family);
        if sound.have(family) && observed.settings.get(setting).is_some_and(|value| value != "1") {
            plan.problems.push(Problem::ForwardingOff { setting });
        }
    }
    bridges(sound, observed, &mut plan);
    link_local(wish, sound, observed, &mut plan);
    proxies(sound, observed, &mut plan);
    peers(wish, sound, observed, &mut plan);
    let mut wanted = BTreeMap::new();
    peer_routes(wish, observed, &mut wanted);
    for (id, network) in &sound.networks {
        network_routes(wish, id, network, observed, &mut wanted, &mut plan);
    }
    yield_to_foreign(observed, &mut wanted, &mut plan);
    routes(&wanted, observed, &mut plan);
    plan
}

fn is_up(observed: &Observed, device: &str) -> bool {
    observed.links.get(device).is_some_and(|link| link.up)
}

/// Answering for other nodes on the bridges of the wish, and the kernel's own ways on bridges that left it.
fn bridges(sound: &Sound<'_>, observed: &Observed, plan: &mut Plan) {
    let wanted: BTreeMap<&str, &Network> =
        sound.networks.values().map(|network| (network.bridge.as_str(), *network)).collect();
    for bridge in observed.links.keys().filter(|name| name.starts_with(BRIDGE_PREFIX)) {
        let Some(network) = wanted.get(bridge.as_str()) else {
            plan.steps.extend(bridge_back(observed, bridge));
            continue;
        };
        let [_, _, proxy6, delay6] = observed.bridge_defaults.clone();
        let wanted = match network.range6 {
            Some(_) => ["1", "0", "1", "0"].map(str::to_owned),
            None => ["1".to_owned(), "0".to_owned(), proxy6, delay6],
        };
        plan.steps.extend(settings_towards(observed, bridge, &wanted));
    }
}

/// The steps that give a bridge back as the engine made it; none where it does not answer for other nodes.
pub(crate) fn bridge_back(observed: &Observed, bridge: &str) -> Vec<Step> {
    let [proxy, ..] = bridge_settings(bridge);
    let index = observed.links.get(bridge).map(|link| link.index);
    let answered = observed.proxies.iter().filter(|(device, _)| Some(*device) == index);
    let mut steps: Vec<Step> =
        answered.map(|(_, address)| Step::RemoveProxy { device: bridge.to_owned(), address: *address }).collect();
    let given =
        observed.link_local.iter().filter(|(device, address)| Some(*device) == index && is_tunnel_address6(*address));
    steps.extend(given.map(|(_, address)| Step::RemoveLinkLocal { device: bridge.to_owned(), address: *address }));
    if observed.settings.get(&proxy).is_some_and(|value| value == "1") {
        steps.extend(settings_towards(observed, bridge, &observed.bridge_defaults));
    }
    steps
}

/// A link-local address on each bridge with IPv6, of which nobody finds out first whether it is unique: until its other ones
/// are found to be (RFC 4862 §5.4), the host asks for nobody's hardware address, and a first container would be out of reach
/// for a second or two.
fn link_local(wish: &Wish, sound: &Sound<'_>, observed: &Observed, plan: &mut Plan) {
    let address = tunnel_address6(wish.tunnel_address);
    for network in sound.networks.values().filter(|network| network.range6.is_some()) {
        let Some(link) = observed.links.get(&network.bridge) else { continue };
        if !observed.link_local.contains(&(link.index, address)) {
            plan.steps.push(Step::AddLinkLocal { device: network.bridge.clone(), address });
        }
    }
}

/// The single IPv6 addresses of other nodes' containers that each bridge answers for.
fn proxies(sound: &Sound<'_>, observed: &Observed, plan: &mut Plan) {
    for network in sound.networks.values() {
        let Some(link) = observed.links.get(&network.bridge) else { continue };
        let all = (link.index, Ipv6Addr::UNSPECIFIED)..=(link.index, Ipv6Addr::from(u128::MAX));
        let present: BTreeSet<Ipv6Addr> = observed.proxies.range(all).map(|(_, address)| *address).collect();
        let device = || network.bridge.clone();
        let missing = network.neighbours.difference(&present);
        plan.steps.extend(missing.map(|address| Step::SetProxy { device: device(), address: *address }));
        let stale = present.difference(&network.neighbours);
        plan.steps.extend(stale.map(|address| Step::RemoveProxy { device: device(), address: *address }));
    }
}

fn settings_towards<'a>(
    observed: &'a Observed,
    bridge: &str,
    values: &'a [String; 4],
) -> impl Iterator<Item = Step> + 'a {
    let pairs = bridge_settings(bridge).into_iter().zip(values);
    pairs
        // A kernel without IPv6 has no such settings.
        .filter(|(key, value)| {
            observed.settings.get(key).map_or_else(|| !key.starts_with("net/ipv6"), |now| now != *value)
        })
        .map(|(key, value)| Step::Setting { key, value: value.clone() })
}

/// One forwarding entry per other node, and one neighbour for each family that networks have.
fn peers(wish: &Wish, sound: &Sound<'_>, observed: &Observed, plan: &mut Plan) {
    if !observed.links.contains_key(PLAIN_TUNNEL) {
        return;
    }
    let others = wish.peers.values().filter(|peer| peer.tunnel_address != wish.tunnel_address);
    let wanted: BTreeMap<Ipv4Addr, Ipv4Addr> = others.map(|peer| (peer.tunnel_address, peer.underlay)).collect();
    for (address, underlay) in &wanted {
        let mac = Mac(tunnel_mac(*address));
        if !observed.forwarding.contains(&(mac, Some(*underlay))) {
            plan.steps.push(Step::SetForwarding { mac, to: *underlay });
        }
    }
    let six = sound.have(Family::V6);
    let neighbours: BTreeMap<IpAddr, Mac> = wanted
        .keys()
        .flat_map(|address| {
            let both = [Some(IpAddr::V4(*address)), six.then(|| IpAddr::V6(tunnel_address6(*address)))];
            both.into_iter().flatten().map(|name| (name, Mac(tunnel_mac(*address))))
        })
        .collect();
    for (address, mac) in &neighbours {
        if observed.neighbours.get(address).map(Vec::as_slice) != Some(&mac.0) {
            plan.steps.push(Step::SetNeighbour { address: *address, mac: *mac });
        }
    }
    for address in observed.neighbours.keys().filter(|address| !neighbours.contains_key(address)) {
        plan.steps.push(Step::RemoveNeighbour { address: *address });
    }
    let by_mac: BTreeMap<Mac, Ipv4Addr> =
        wanted.iter().map(|(address, underlay)| (Mac(tunnel_mac(*address)), *underlay)).collect();
    for (mac, to) in &observed.forwarding {
        if by_mac.get(mac) != to.as_ref() {
            plan.steps.push(Step::RemoveForwarding { mac: *mac, to: *to });
        }
    }
}

/// The other nodes' tunnel addresses themselves: for probes, and for errors (ICMP) that they send from them.
fn peer_routes(wish: &Wish, observed: &Observed, wanted: &mut BTreeMap<IpNet, Wanted<'_>>) {
    if !is_up(observed, PLAIN_TUNNEL) {
        return;
    }
    for peer in wish.peers.values().filter(|peer| peer.tunnel_address != wish.tunnel_address) {
        let to = IpNet::from(IpAddr::V4(peer.tunnel_address));
        let route = Route { to, device: PLAIN_TUNNEL.to_owned(), via: None, source: Some(wish.tunnel_address.into()) };
        wanted.insert(to, Wanted { route, network: "of the tunnels" });
    }
}

fn network_routes<'a>(
    wish: &Wish,
    id: &'a str,
    network: &Network,
    observed: &Observed,
    wanted: &mut BTreeMap<IpNet, Wanted<'a>>,
    plan: &mut Plan,
) {
    if !is_up(observed, &network.bridge) {
        let state = if observed.links.contains_key(&network.bridge) { "up" } else { "there" };
        plan.waiting.push(format!("network {id}: its bridge {} is not {state} yet", network.bridge));
        return;
    }
    for own in network.own_inside_remote() {
        let route = Route { to: own, device: network.bridge.clone(), via: None, source: None };
        wanted.insert(own, Wanted { route, network: id });
    }
    let tunnel = network.tunnel();
    if !is_up(observed, tunnel) {
        let count = network.remote.len();
        if count > 0 {
            plan.waiting.push(format!("network {id}: {count} routes wait for {tunnel}"));
        }
        return;
    }
    for (slice, number) in &network.remote {
        let Some(peer) = wish.peers.get(number) else {
            plan.problems.push(Problem::UnknownPeer { network: id.to_owned(), slice: *slice, peer: *number });
            continue;
        };
        let (via, source) = match slice {
            IpNet::V4(_) => (IpAddr::V4(peer.tunnel_address), Some(IpAddr::V4(wish.tunnel_address))),
            // The host itself has no IPv6 address on the tunnels.
            IpNet::V6(_) => (IpAddr::V6(tunnel_address6(peer.tunnel_address)), None),
        };
        let via = (!network.encrypted).then_some(via);
        let route = Route { to: *slice, device: tunnel.to_owned(), via, source };
        wanted.insert(*slice, Wanted { route, network: id });
    }
}

/// Reports others' routes that lie in ours, and leaves out those of ours that would have to replace one.
fn yield_to_foreign(observed: &Observed, wanted: &mut BTreeMap<IpNet, Wanted<'_>>, plan: &mut Plan) {
    for foreign in observed.routes.iter().filter(|route| !route.ours && route.to.prefix_len() > 0) {
        // Ours are preferred over the same destination with any larger metric.
        let same = if foreign.metric <= usual_metric(&foreign.to) { wanted.remove(&foreign.to) } else { None };
        let network = same.map(|wanted| (wanted.network.to_owned(), foreign.to)).or_else(|| {
            let mut around = std::iter::successors(foreign.to.supernet(), IpNet::supernet);
            let holder = around.find_map(|net| wanted.get(&net).map(|wanted| (net, wanted)))?;
            Some((holder.1.network.to_owned(), holder.0))
        });
        if let Some((network, slice)) = network {
            let device = observed.device_name(foreign.device);
            plan.problems.push(Problem::ForeignRoute { network, slice, route: foreign.to, device });
        }
    }
}

fn routes(wanted: &BTreeMap<IpNet, Wanted<'_>>, observed: &Observed, plan: &mut Plan) {
    let mut ours: BTreeMap<IpNet, Vec<&KernelRoute>> = BTreeMap::new();
    for route in observed.routes.iter().filter(|route| route.ours) {
        ours.entry(route.to).or_default().push(route);
    }
    let mut stale = Vec::new();
    for (to, Wanted { route, .. }) in wanted {
        let index = observed.links.get(&route.device).map(|link| link.index);
        let mut present = ours.remove(to).unwrap_or_default();
        let right = present.iter().position(|kernel| {
            kernel.unicast
                && kernel.metric == usual_metric(to)
                && kernel.device == index
                && kernel.via == route.via
                && (kernel.source == route.source || route.source.is_none())
        });
        if let Some(position) = right {
            present.remove(position);
        } else if let Some(position) = present.iter().position(|kernel| kernel.metric == usual_metric(to)) {
            present.remove(position);
            plan.steps.push(Step::ReplaceRoute(route.clone()));
        } else {
            plan.steps.push(Step::AddRoute(route.clone()));
        }
        stale.extend(present);
    }
    stale.extend(ours.into_values().flatten());
    plan.steps.extend(stale.into_iter().map(|route| {
        let KernelRoute { to, device, via, metric, .. } = *route;
        Step::RemoveRoute(Stale { to, device, via, metric })
    }));
}

/// The metric of a route that was set without one (`IP6_RT_PRIO_USER` in the kernel's `linux/ipv6_route.h`).
fn usual_metric(to: &IpNet) -> u32 {
    match to {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => 1024,
    }
}
