//! The steps for neighbours, forwarding entries, routes and the bridges' settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Plan;
use crate::wire::observe::{FORWARDING_SETTING, KernelRoute, Observed, bridge_settings};
use crate::wire::problem::Problem;
use crate::wire::step::{Mac, Route, Stale, Step};
use crate::wire::wish::{BRIDGE_PREFIX, Network, PLAIN_TUNNEL, Sound, Wish, tunnel_mac};

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
    if observed.settings.get(FORWARDING_SETTING).is_some_and(|value| value != "1") {
        plan.problems.push(Problem::ForwardingOff);
    }
    bridges(sound, observed, &mut plan);
    peers(wish, observed, &mut plan);
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

/// Proxy ARP on the bridges of the wish, and the kernel's own ways on bridges that left it.
fn bridges(sound: &Sound<'_>, observed: &Observed, plan: &mut Plan) {
    let wanted: BTreeSet<&str> = sound.networks.values().map(|network| network.bridge.as_str()).collect();
    for bridge in observed.links.keys().filter(|name| name.starts_with(BRIDGE_PREFIX)) {
        if wanted.contains(bridge.as_str()) {
            plan.steps.extend(settings_towards(observed, bridge, &["1".to_owned(), "0".to_owned()]));
        } else {
            plan.steps.extend(bridge_back(observed, bridge));
        }
    }
}

/// The steps that give a bridge back as the engine made it; none where it does not answer for other nodes.
pub(crate) fn bridge_back(observed: &Observed, bridge: &str) -> Vec<Step> {
    let [proxy, _] = bridge_settings(bridge);
    if observed.settings.get(&proxy).is_none_or(|value| value != "1") {
        return Vec::new();
    }
    settings_towards(observed, bridge, &observed.bridge_defaults).collect()
}

fn settings_towards<'a>(
    observed: &'a Observed,
    bridge: &str,
    values: &'a [String; 2],
) -> impl Iterator<Item = Step> + 'a {
    let pairs = bridge_settings(bridge).into_iter().zip(values);
    pairs
        .filter(|(key, value)| observed.settings.get(key) != Some(*value))
        .map(|(key, value)| Step::Setting { key, value: value.clone() })
}

/// One neighbour and one forwarding entry per other node.
fn peers(wish: &Wish, observed: &Observed, plan: &mut Plan) {
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
        if observed.neighbours.get(address).map(Vec::as_slice) != Some(&mac.0) {
            plan.steps.push(Step::SetNeighbour { address: *address, mac });
        }
    }
    for address in observed.neighbours.keys().filter(|address| !wanted.contains_key(address)) {
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
fn peer_routes(wish: &Wish, observed: &Observed, wanted: &mut BTreeMap<Ipv4Net, Wanted<'_>>) {
    if !is_up(observed, PLAIN_TUNNEL) {
        return;
    }
    for peer in wish.peers.values().filter(|peer| peer.tunnel_address != wish.tunnel_address) {
        let to = Ipv4Net::from(peer.tunnel_address);
        let route = Route { to, device: PLAIN_TUNNEL.to_owned(), via: None, source: Some(wish.tunnel_address) };
        wanted.insert(to, Wanted { route, network: "of the tunnels" });
    }
}

fn network_routes<'a>(
    wish: &Wish,
    id: &'a str,
    network: &Network,
    observed: &Observed,
    wanted: &mut BTreeMap<Ipv4Net, Wanted<'a>>,
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
        let via = (!network.encrypted).then_some(peer.tunnel_address);
        let route = Route { to: *slice, device: tunnel.to_owned(), via, source: Some(wish.tunnel_address) };
        wanted.insert(*slice, Wanted { route, network: id });
    }
}

/// Reports others' routes that lie in ours, and leaves out those of ours that would have to replace one.
fn yield_to_foreign(observed: &Observed, wanted: &mut BTreeMap<Ipv4Net, Wanted<'_>>, plan: &mut Plan) {
    for foreign in observed.routes.iter().filter(|route| !route.ours && route.to.prefix_len() > 0) {
        // Ours have metric 0 and are preferred over the same destination with any other.
        let same = if foreign.metric == 0 { wanted.remove(&foreign.to) } else { None };
        let network = same.map(|wanted| (wanted.network.to_owned(), foreign.to)).or_else(|| {
            let mut around = std::iter::successors(foreign.to.supernet(), Ipv4Net::supernet);
            let holder = around.find_map(|net| wanted.get(&net).map(|wanted| (net, wanted)))?;
            Some((holder.1.network.to_owned(), holder.0))
        });
        if let Some((network, slice)) = network {
            let device = observed.device_name(foreign.device);
            plan.problems.push(Problem::ForeignRoute { network, slice, route: foreign.to, device });
        }
    }
}

fn routes(wanted: &BTreeMap<Ipv4Net, Wanted<'_>>, observed: &Observed, plan: &mut Plan) {
    let mut ours: BTreeMap<Ipv4Net, Vec<&KernelRoute>> = BTreeMap::new();
    for route in observed.routes.iter().filter(|route| route.ours) {
        ours.entry(route.to).or_default().push(route);
    }
    let mut stale = Vec::new();
    for (to, Wanted { route, .. }) in wanted {
        let index = observed.links.get(&route.device).map(|link| link.index);
        let mut present = ours.remove(to).unwrap_or_default();
        let right = present.iter().position(|kernel| {
            kernel.unicast
                && kernel.metric == 0
                && kernel.device == index
                && kernel.via == route.via
                && (kernel.source == route.source || route.source.is_none())
        });
        if let Some(position) = right {
            present.remove(position);
        } else if let Some(position) = present.iter().position(|kernel| kernel.metric == 0) {
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
