//! What must not get through.

use std::net::Ipv4Addr;

use crate::icmp::ping;
use crate::lab::{self, Lab, Net, Node, VXLAN_PORT, shell, tcp, tcp_from};

/// Nodes whose own policy lets everything pass, so that only our rules keep anything out.
fn fleet(lab: &Lab, count: u8, nets: &[Net]) -> Vec<Node> {
    let nodes = lab::fleet(lab, count, nets);
    for node in &nodes {
        shell(&node.name, "iptables -P FORWARD ACCEPT");
    }
    nodes
}

/// How many packets have come out of a node's tunnel.
fn tunnelled(node: &Node) -> String {
    shell(&node.name, "cat /sys/class/net/wharf0/statistics/rx_packets")
}

#[test]
fn two_networks_are_apart_both_ways_between_nodes_and_on_one_node() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 2, &nets);
    let [first, second] = &nets;
    let at_a = first.address(&nodes[0], 10);
    let a = lab.container(&nodes[0], "a", &[(first, at_a)]);
    for node in &nodes {
        // Without our chain the engine's own rules let these pass, as the emulation has no isolation chains.
        let at_b = second.address(node, 20);
        let b = lab.container(node, &format!("b{}", node.number), &[(second, at_b)]);
        assert_eq!(tcp(&a, &b, at_b), None, "to node {}", node.number);
        assert_eq!(tcp(&b, &a, at_a), None, "from node {}", node.number);
        assert!(!ping(&a, at_b) && !ping(&b, at_a));
    }
}

#[test]
fn a_forged_source_does_not_leave_its_node() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 2, &nets);
    let [first, second] = &nets;
    let at_b = first.address(&nodes[1], 10);
    let a = lab.container(&nodes[0], "a", &[(first, first.address(&nodes[0], 10))]);
    let b = lab.container(&nodes[1], "b", &[(first, at_b)]);
    // One of the other node's slice, one of another network's, one from nowhere.
    for forged in [first.address(&nodes[1], 11), second.address(&nodes[0], 11), Ipv4Addr::new(198, 51, 100, 7)] {
        shell(&a, &format!("ip addr add {forged}/32 dev lo"));
        let before = tunnelled(&nodes[1]);
        assert_eq!(tcp_from(&a, forged, &b, at_b), None, "{forged}");
        assert_eq!(tunnelled(&nodes[1]), before, "a packet from {forged} arrived");
    }
    assert!(tcp(&a, &b, at_b).is_some(), "the true source still gets through");
}

/// How many TCP segments a namespace has received.
fn received(namespace: &str) -> String {
    let counters = shell(namespace, "grep Tcp: /proc/net/snmp | tail -n 1");
    counters.split(' ').nth(10).unwrap().to_owned()
}

#[test]
fn a_node_that_forges_our_own_addresses_is_not_believed() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let at_a = net.address(&nodes[0], 10);
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    let own = net.address(&nodes[0], 99);
    // The second node, rules and all set aside, speaks as an address of the first node's slice.
    shell(&nodes[1].name, &format!("ip addr add {own}/32 dev lo; iptables -F DOCKER-USER"));
    let before = received(&a);
    assert_eq!(tcp_from(&nodes[1].name, own, &a, at_a), None);
    assert_eq!(received(&a), before);
}

#[test]
fn a_stranger_on_the_underlay_gets_nothing_in() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let at_a = net.address(&nodes[0], 10);
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    let stranger = lab.namespace("evil");
    lab.join_underlay(&stranger, 66);
    let mac = wharf_agent::wire::tunnel_mac(nodes[0].tunnel()).map(|octet| format!("{octet:02x}")).join(":");
    let forged = net.address(&nodes[1], 10);
    shell(
        &stranger,
        &format!(
            "ip link add vx type vxlan id {} local 172.31.0.66 dstport {VXLAN_PORT} nolearning
             ip addr add {forged}/32 dev vx; ip link set vx up
             bridge fdb append {mac} dev vx dst {}
             ip neigh add {tunnel} lladdr {mac} dev vx
             ip route add {at_a}/32 via {tunnel} dev vx onlink src {forged}
             ip route add {tunnel}/32 dev vx src {forged}",
            wharf_agent::wire::TUNNEL_VNI,
            nodes[0].underlay(),
            tunnel = nodes[0].tunnel(),
        ),
    );
    let before = (received(&a), tunnelled(&nodes[0]));
    assert_eq!(tcp_from(&stranger, forged, &a, at_a), None);
    assert!(!ping(&stranger, nodes[0].tunnel()));
    // And without a tunnel, straight over the underlay: that is for the engine's policy to refuse.
    shell(&nodes[0].name, "iptables -P FORWARD DROP");
    shell(&stranger, &format!("ip route replace {at_a}/32 via {}", nodes[0].underlay()));
    assert_eq!(tcp(&stranger, &a, at_a), None);
    assert_eq!((received(&a), tunnelled(&nodes[0])), before);
}

#[test]
fn a_peer_reaches_no_port_of_the_host_over_the_tunnel() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    assert!(ping(&nodes[1].name, nodes[0].tunnel()));
    assert_eq!(tcp(&nodes[1].name, &nodes[0].name, nodes[0].tunnel()), None);
    let b = lab.container(&nodes[1], "b", &[(&net, net.address(&nodes[1], 10))]);
    assert_eq!(tcp(&b, &nodes[0].name, net.gateway(&nodes[0])), None);
}
