//! The steps for the tunnel devices, their addresses and settings.

use ipnet::Ipv4Net;

use super::Plan;
use crate::wire::observe::{Link, Observed, tunnel_settings};
use crate::wire::step::{Mac, Step, Vxlan};
use crate::wire::wish::{Family, PLAIN_TUNNEL, SECURE_TUNNEL, Sound, TUNNEL_VNI, Wish, tunnel_mac};

/// "Loose" reverse path filtering (RFC 3704): a peer may answer over the other tunnel than the one we would ask it by.
const LOOSE: &str = "2";

/// What is to be done so that the tunnel devices are as wished.
pub(crate) fn links(wish: &Wish, sound: &Sound<'_>, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    plain_tunnel(wish, sound.have(Family::V6), observed, &mut plan);
    secure_tunnel(wish, sound.have(Family::V6), observed, &mut plan);
    plan
}

fn plain_tunnel(wish: &Wish, six: bool, observed: &Observed, plan: &mut Plan) {
    let wanted =
        Vxlan { port: wish.vxlan_port, local: wish.underlay, mtu: wish.mtu, mac: Mac(tunnel_mac(wish.tunnel_address)) };
    let mut kept = observed.links.get(PLAIN_TUNNEL);
    if let Some(why) = kept.and_then(|link| misfit(&wanted, link)) {
        plan.steps.push(Step::RemoveLink { name: PLAIN_TUNNEL.to_owned(), why });
        kept = None;
    }
    let name = || PLAIN_TUNNEL.to_owned();
    match kept {
        None => plan.steps.push(Step::AddTunnel(wanted)),
        Some(link) if link.mtu != wish.mtu => plan.steps.push(Step::SetMtu { name: name(), mtu: wish.mtu }),
        Some(_) => {}
    }
    // Source checking is set before the device is up, so that no packet meets the stricter default.
    settings(PLAIN_TUNNEL, six, kept.map(|_| observed), plan);
    let address = Ipv4Net::from(wish.tunnel_address);
    let addresses = kept.and_then(|_| observed.addresses.get(PLAIN_TUNNEL));
    if !addresses.is_some_and(|addresses| addresses.contains(&address)) {
        plan.steps.push(Step::AddAddress { device: name(), address });
    }
    for stale in addresses.into_iter().flatten().filter(|other| **other != address) {
        plan.steps.push(Step::RemoveAddress { device: name(), address: *stale });
    }
    if !kept.is_some_and(|link| link.up) {
        plan.steps.push(Step::BringUp { name: name() });
    }
}

/// Why a device cannot become the one that is wanted, if so: these parameters are fixed when a device is made.
fn misfit(wanted: &Vxlan, link: &Link) -> Option<String> {
    let Some(vxlan) = &link.vxlan else {
        return Some("it is no VXLAN device".to_owned());
    };
    if vxlan.vni != TUNNEL_VNI {
        return Some(format!("its network identifier is {}", vxlan.vni));
    }
    if vxlan.port != wanted.port {
        return Some(format!("its port is {}", vxlan.port));
    }
    if vxlan.local != Some(wanted.local) {
        return Some("its local address is another".to_owned());
    }
    if vxlan.learning || vxlan.default_destination {
        return Some("it learns or floods".to_owned());
    }
    (link.mac != wanted.mac.0).then(|| "its hardware address is another".to_owned())
}

fn secure_tunnel(wish: &Wish, six: bool, observed: &Observed, plan: &mut Plan) {
    if !observed.links.contains_key(SECURE_TUNNEL) {
        return;
    }
    settings(SECURE_TUNNEL, six, Some(observed), plan);
    if observed.addresses.get(SECURE_TUNNEL).is_none_or(|addresses| addresses.is_empty()) {
        let address = Ipv4Net::from(wish.tunnel_address);
        plan.steps.push(Step::AddAddress { device: SECURE_TUNNEL.to_owned(), address });
    }
}

/// The settings of a tunnel; `observed` is `None` for a device that is about to be made.
fn settings(tunnel: &str, six: bool, observed: Option<&Observed>, plan: &mut Plan) {
    let [source_check, no_ipv6] = tunnel_settings(tunnel);
    for (key, value) in [(source_check, LOOSE), (no_ipv6, if six { "0" } else { "1" })] {
        // A kernel without IPv6 has no such setting, and no such traffic.
        let right = observed.is_some_and(|observed| observed.settings.get(&key).is_none_or(|now| now == value));
        if !right {
            plan.steps.push(Step::Setting { key, value: value.to_owned() });
        }
    }
}
