use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;
use crate::wire::observe::{KernelRoute, Link, Observed, VxlanLink};
use crate::wire::wish::{Network, PLAIN_TUNNEL, Peer, TUNNEL_VNI, Wish, tunnel_mac};

fn wish() -> Wish {
    let network = Network {
        bridge: "wh-a".to_owned(),
        range: "10.192.0.0/16".parse().unwrap(),
        range6: None,
        internal: false,
        encrypted: false,
        own: vec!["10.192.1.0/25".parse().unwrap()],
        remote: BTreeMap::from([("10.192.2.0/25".parse().unwrap(), 2)]),
        neighbours: Default::default(),
    };
    let peer = Peer { tunnel_address: Ipv4Addr::new(10, 255, 0, 2), underlay: Ipv4Addr::new(172, 31, 0, 2) };
    Wish {
        tunnel_address: Ipv4Addr::new(10, 255, 0, 1),
        underlay: Ipv4Addr::new(172, 31, 0, 1),
        mtu: 1370,
        vxlan_port: 4790,
        secure_port: None,
        peers: BTreeMap::from([(2, peer)]),
        networks: BTreeMap::from([("a".to_owned(), network)]),
        dns_bridges: Default::default(),
    }
}

/// A kernel with the devices of [`wish`] and no entries.
fn devices() -> Observed {
    let vxlan = VxlanLink {
        vni: TUNNEL_VNI,
        port: 4790,
        local: Some(Ipv4Addr::new(172, 31, 0, 1)),
        learning: false,
        default_destination: false,
    };
    let mac = tunnel_mac(Ipv4Addr::new(10, 255, 0, 1)).to_vec();
    let tunnel = Link { index: 5, up: true, mtu: 1370, mac, vxlan: Some(vxlan) };
    let bridge = Link { index: 6, up: true, mtu: 1500, mac: vec![0; 6], vxlan: None };
    let mut observed = Observed::default();
    observed.links.extend([(PLAIN_TUNNEL.to_owned(), tunnel), ("wh-a".to_owned(), bridge)]);
    observed.addresses.insert(PLAIN_TUNNEL.to_owned(), ["10.255.0.1/32".parse().unwrap()].into());
    let settings = [
        ("net/ipv4/conf/wh-a/proxy_arp", "1"),
        ("net/ipv4/neigh/wh-a/proxy_delay", "0"),
        ("net/ipv4/conf/wharf0/rp_filter", "2"),
    ];
    observed.settings.extend(settings.map(|(key, value)| (key.to_owned(), value.to_owned())));
    observed
}

fn entry_steps(wish: &Wish, observed: &Observed) -> Vec<String> {
    entries(wish, &wish.sound(), observed).steps.iter().map(Step::to_string).collect()
}

#[test]
fn devices_as_wished_need_no_step() {
    assert!(links(&wish(), &wish().sound(), &devices()).steps.is_empty());
}

#[test]
fn a_device_on_another_port_is_made_anew() {
    let mut observed = devices();
    observed.links.get_mut(PLAIN_TUNNEL).unwrap().vxlan.as_mut().unwrap().port = 4789;
    let steps = links(&wish(), &wish().sound(), &observed).steps;
    assert!(matches!(&steps[..2], [Step::RemoveLink { .. }, Step::AddTunnel(_)]), "{steps:?}");
    assert!(matches!(steps.last(), Some(Step::BringUp { .. })), "{steps:?}");
}

#[test]
fn what_is_missing_is_set() {
    let expected = [
        "set forwarding of 02:77:0a:ff:00:02 to 172.31.0.2",
        "set neighbour 10.255.0.2 at 02:77:0a:ff:00:02",
        "add route 10.192.2.0/25 via 10.255.0.2 dev wharf0",
        "add route 10.255.0.2/32 dev wharf0",
    ];
    assert_eq!(entry_steps(&wish(), &devices()), expected);
}

#[test]
fn a_network_without_its_bridge_waits_and_gets_no_route() {
    let mut observed = devices();
    observed.links.remove("wh-a");
    let plan = entries(&wish(), &wish().sound(), &observed);
    assert_eq!(plan.waiting, ["network a: its bridge wh-a is not there yet"]);
    assert!(!plan.steps.iter().any(|step| step.to_string().contains("10.192.")), "{:?}", plan.steps);
}

#[test]
fn a_foreign_route_to_the_same_place_is_kept_and_ours_left_out() {
    let mut observed = devices();
    let to = "10.192.2.0/25".parse().unwrap();
    let device = Some(6);
    observed.routes.push(KernelRoute { to, ours: false, device, via: None, source: None, metric: 0, unicast: true });
    let plan = entries(&wish(), &wish().sound(), &observed);
    assert_eq!(plan.problems.len(), 1);
    assert!(!plan.steps.iter().any(|step| step.to_string().contains("10.192.")), "{:?}", plan.steps);
    // With a higher metric it is in nobody's way.
    observed.routes[0].metric = 100;
    let plan = entries(&wish(), &wish().sound(), &observed);
    assert!(plan.steps.iter().any(|step| step.to_string().contains("10.192.2.0/25")), "{:?}", plan.steps);
}

#[test]
fn an_own_address_inside_another_node_s_slice_stays_on_the_bridge() {
    let mut wish = wish();
    wish.networks.get_mut("a").unwrap().own.push("10.192.2.9/32".parse().unwrap());
    assert!(entry_steps(&wish, &devices()).contains(&"add route 10.192.2.9/32 dev wh-a".to_owned()));
}
