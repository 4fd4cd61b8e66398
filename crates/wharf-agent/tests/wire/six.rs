//! Networks that have IPv6 addresses, too.

use std::net::Ipv6Addr;

use crate::lab::{Lab, Net, Node, check, converge, fleet, heals, picture, shell, tcp, tcp6, wish, within};
use wharf_agent::wire::{Host, Wire};

const RIGHT: [String; 0] = [];

/// Two containers, on the first and on the second of some nodes, with their IPv6 addresses.
fn pair(lab: &Lab, nodes: &[Node], net: &Net) -> [(String, Ipv6Addr); 2] {
    [("a", &nodes[0]), ("b", &nodes[1])].map(|(name, node)| {
        let address = net.address(node, 10);
        (lab.container(node, &format!("{name}{}", net.id), &[(net, address)]), net.pair(address))
    })
}

#[test]
fn containers_of_two_nodes_reach_each_other_over_both() {
    let (lab, net) = (Lab::new(), Net::dual(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let [(a, at_a), (b, at_b)] = pair(&lab, &nodes, &net);
    assert_eq!(tcp6(&a, None, &b, at_b), Some(at_a));
    assert_eq!(tcp6(&b, None, &a, at_a), Some(at_b));
    assert!(tcp(&a, &b, net.address(&nodes[1], 10)).is_some());
    for node in &nodes {
        assert_eq!(check(node, &wish(node, &nodes, std::slice::from_ref(&net))), RIGHT);
    }
}

#[test]
fn a_container_on_two_networks_reaches_remote_members_of_both() {
    let (lab, nets) = (Lab::new(), [Net::dual(0), Net { internal: true, ..Net::dual(1) }]);
    let nodes = fleet(&lab, 2, &nets);
    let [first, second] = &nets;
    let both = [first.address(&nodes[0], 10), second.address(&nodes[0], 10)];
    let c = lab.container(&nodes[0], "c", &[(first, both[0]), (second, both[1])]);
    for (net, own) in nets.iter().zip(both) {
        let address = net.address(&nodes[1], 20);
        let other = lab.container(&nodes[1], &format!("o{}", net.id), &[(net, address)]);
        assert_eq!(tcp6(&c, None, &other, net.pair(address)), Some(net.pair(own)), "{}", net.id);
        assert_eq!(tcp6(&other, None, &c, net.pair(own)), Some(net.pair(address)), "{}", net.id);
    }
}

#[test]
fn networks_are_apart_and_nobody_gets_in_from_outside() {
    let (lab, nets) = (Lab::new(), [Net::dual(0), Net::dual(1)]);
    let nodes = fleet(&lab, 2, &nets);
    let [(a, at_a), (b, at_b)] = pair(&lab, &nodes, &nets[0]);
    let [(near, at_near), (far, at_far)] = pair(&lab, &nodes, &nets[1]);
    for (other, at_other) in [(&near, at_near), (&far, at_far)] {
        assert_eq!(tcp6(&a, None, other, at_other), None);
        assert_eq!(tcp6(other, None, &a, at_a), None);
    }
    // Nor with an address of the other node's, or of the other network's, as its source.
    for forged in [nets[0].pair(nets[0].address(&nodes[1], 11)), nets[1].pair(nets[1].address(&nodes[0], 11))] {
        shell(&a, &format!("ip addr add {forged}/128 dev lo nodad"));
        assert_eq!(tcp6(&a, Some(forged), &b, at_b), None, "{forged}");
    }
    // A neighbour on the underlay that knows the way; engines before 27 have no rule against it.
    let outside = lab.namespace("out");
    lab.join_underlay(&outside, 200);
    shell(&outside, "ip addr add 2001:db8::c8/64 dev eth0 nodad");
    shell(&nodes[0].name, "ip addr add 2001:db8::1/64 dev eth0 nodad");
    shell(&outside, &format!("ip -6 route add {at_a}/128 via 2001:db8::1"));
    assert_eq!(tcp6(&outside, None, &a, at_a), None);
    assert_eq!(tcp6(&b, None, &a, at_a), Some(at_b), "the true ones still do");
}

#[test]
fn egress_carries_the_node_s_address_and_an_internal_network_has_none() {
    let (lab, nets) = (Lab::new(), [Net::dual(0), Net { internal: true, ..Net::dual(1) }]);
    let nodes = fleet(&lab, 2, &nets);
    let [(a, _), _] = pair(&lab, &nodes, &nets[0]);
    let [(inner, _), (other, at_other)] = pair(&lab, &nodes, &nets[1]);
    let outside = lab.namespace("out");
    lab.join_underlay(&outside, 200);
    shell(&outside, "ip addr add 2001:db8::c8/64 dev eth0 nodad");
    shell(&nodes[0].name, "ip addr add 2001:db8::1/64 dev eth0 nodad");
    let at_outside = "2001:db8::c8".parse().unwrap();
    assert_eq!(tcp6(&a, None, &outside, at_outside), Some("2001:db8::1".parse().unwrap()));
    assert!(tcp6(&inner, None, &other, at_other).is_some());
    shell(&inner, &format!("ip -6 route add default via {}", nets[1].pair(nets[1].gateway(&nodes[0]))));
    assert_eq!(tcp6(&inner, None, &outside, at_outside), None, "even where it gives itself a way out");
}

#[test]
fn every_damage_is_seen_and_healed() {
    let (lab, net) = (Lab::new(), Net::dual(0));
    let nets = std::slice::from_ref(&net);
    let nodes = fleet(&lab, 2, nets);
    let wish = wish(&nodes[0], &nodes, nets);
    let [(a, at_a), (b, at_b)] = pair(&lab, &nodes, &net);
    let right = picture(&nodes[0]);
    let damages = [
        "ip link del wharf0",
        "ip -6 route flush proto 87",
        "ip -6 route replace fd00:0::200/121 via fe80::1 dev wharf0 onlink proto 87",
        "ip -6 neigh flush dev wharf0 nud permanent",
        "ip -6 neigh del proxy fd00:0::20a dev wh-net0",
        "ip -6 neigh add proxy fd00:0::2ff dev wh-net0",
        "ip6tables -F WHARF-FORWARD",
        "ip6tables -F",
        "ip6tables -t nat -F",
        "ip6tables -I WHARF-TO-TUNNEL -j ACCEPT",
        "echo 0 > /proc/sys/net/ipv6/conf/wh-net0/proxy_ndp",
        "echo 80 > /proc/sys/net/ipv6/neigh/wh-net0/proxy_delay",
        "echo 1 > /proc/sys/net/ipv6/conf/wharf0/disable_ipv6",
    ];
    heals(&nodes[0], &wish, &damages, || tcp6(&a, None, &b, at_b) == Some(at_a));
    let lines =
        |picture: &str| picture.lines().filter(|line| line.contains("fd00")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&picture(&nodes[0])), lines(&right));
}

#[test]
fn a_network_that_goes_and_a_cleanup_leave_nothing() {
    let (lab, net) = (Lab::new(), Net::dual(0));
    let nets = std::slice::from_ref(&net);
    let nodes = fleet(&lab, 2, nets);
    let [first, ..] = &nodes[..] else { panic!("two nodes") };
    let rules = || shell(&first.name, "ip6tables-save");
    let entries = || shell(&first.name, "ip -6 neigh show proxy; ip -6 route show proto 87");
    assert!(rules().contains("WHARF-FORWARD") && !entries().is_empty());
    // One process, as an agent is, and one that has just started.
    let left = wish(first, &nodes, &[]);
    within(&first.name, async || {
        let mut wire = Wire::new(Host::default()).unwrap();
        wire.converge(&wish(first, &nodes, nets)).await;
        let report = wire.converge(&left).await;
        assert!(report.problems.is_empty(), "{report:?}");
    });
    assert!(!rules().contains("WHARF") && entries().is_empty(), "{}{}", rules(), entries());
    assert_eq!(shell(&first.name, "cat /proc/sys/net/ipv6/conf/wharf0/disable_ipv6").trim(), "1");
    assert_eq!(check(first, &left), RIGHT);
    converge(first, &wish(first, &nodes, nets));
    assert!(rules().contains("WHARF-FORWARD") && !entries().is_empty());
    within(&first.name, async || Wire::new(Host::default()).unwrap().cleanup().await);
    assert!(!rules().contains("WHARF") && entries().is_empty(), "{}{}", rules(), entries());
    assert_eq!(shell(&first.name, "cat /proc/sys/net/ipv6/conf/wh-net0/proxy_ndp").trim(), "0");
}
