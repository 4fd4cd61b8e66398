//! What has to get through.

use std::net::{IpAddr, Ipv4Addr};

use crate::icmp::ping;
use crate::lab::{Lab, Net, Node, check, converge, fleet, in_namespace, picture, shell, tcp, tcp_from, wish, within};
use wharf_agent::wire::{Host, LinkChange, Wire};

#[test]
fn containers_of_two_nodes_reach_each_other_with_their_own_addresses() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let (at_a, at_b) = (net.address(&nodes[0], 10), net.address(&nodes[1], 10));
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    let b = lab.container(&nodes[1], "b", &[(&net, at_b)]);
    assert!(ping(&a, at_b) && ping(&b, at_a));
    assert_eq!(tcp(&a, &b, at_b), Some(at_a));
    assert_eq!(tcp(&b, &a, at_a), Some(at_b));
}

#[test]
fn containers_of_three_nodes_reach_each_other() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 3, std::slice::from_ref(&net));
    let place = |node: &Node| net.address(node, 10);
    let containers: Vec<String> =
        nodes.iter().map(|node| lab.container(node, &format!("c{}", node.number), &[(&net, place(node))])).collect();
    for (i, from) in containers.iter().enumerate() {
        for (j, to) in containers.iter().enumerate().filter(|(j, _)| *j != i) {
            assert_eq!(tcp(from, to, place(&nodes[j])), Some(place(&nodes[i])), "{i} to {j}");
        }
    }
}

#[test]
fn a_container_on_two_networks_reaches_remote_members_of_both() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 2, &nets);
    let [first, second] = &nets;
    let both = [first.address(&nodes[0], 10), second.address(&nodes[0], 10)];
    let c = lab.container(&nodes[0], "c", &[(first, both[0]), (second, both[1])]);
    for (net, own) in nets.iter().zip(both) {
        let address = net.address(&nodes[1], 20);
        let other = lab.container(&nodes[1], &format!("o{}", net.id), &[(net, address)]);
        assert_eq!(tcp(&c, &other, address), Some(own), "{}", net.id);
        assert_eq!(tcp(&other, &c, own), Some(address), "{}", net.id);
    }
}

#[test]
fn an_internal_network_reaches_remote_members_and_nothing_outside() {
    let lab = Lab::new();
    let net = Net { internal: true, ..Net::new(0) };
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let outside = lab.namespace("out");
    lab.join_underlay(&outside, 200);
    let (at_a, at_b) = (net.address(&nodes[0], 10), net.address(&nodes[1], 10));
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    let b = lab.container(&nodes[1], "b", &[(&net, at_b)]);
    assert_eq!(tcp(&a, &b, at_b), Some(at_a));
    // Even a container that gives itself a default route gets nowhere.
    shell(&a, &format!("ip route add default via {}", net.gateway(&nodes[0])));
    assert_eq!(tcp(&a, &outside, Ipv4Addr::new(172, 31, 0, 200)), None);
}

#[test]
fn egress_carries_the_node_s_address() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let outside = lab.namespace("out");
    lab.join_underlay(&outside, 200);
    let a = lab.container(&nodes[0], "a", &[(&net, net.address(&nodes[0], 10))]);
    assert_eq!(tcp(&a, &outside, Ipv4Addr::new(172, 31, 0, 200)), Some(nodes[0].underlay()));
}

#[test]
fn the_host_reaches_remote_containers_from_its_slice_s_gateway() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    let at_b = net.address(&nodes[1], 10);
    let b = lab.container(&nodes[1], "b", &[(&net, at_b)]);
    let gateway = net.gateway(&nodes[0]);
    assert_eq!(tcp_from(&nodes[0].name, gateway, &b, at_b), Some(gateway));
    assert!(ping(&nodes[0].name, nodes[1].tunnel()), "the nodes' tunnel addresses answer");
}

#[test]
fn single_addresses_out_of_another_node_s_slice_are_reached_both_ways() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 3, std::slice::from_ref(&net));
    // An address of the second node's slice, given with `--ip` to a container on the first.
    let guest = net.address(&nodes[1], 77);
    for node in &nodes {
        let mut wish = wish(node, &nodes, std::slice::from_ref(&net));
        let network = wish.networks.get_mut(&net.id).unwrap();
        if node.number == 1 {
            network.own.push(IpAddr::V4(guest).into());
        } else {
            network.remote.insert(IpAddr::V4(guest).into(), 1);
        }
        let report = converge(node, &wish);
        assert!(report.problems.is_empty(), "{report:?}");
        assert_eq!(check(node, &wish), Vec::<String>::new());
    }
    let g = lab.container(&nodes[0], "g", &[(&net, guest)]);
    for node in &nodes {
        let address = net.address(node, 20);
        let other = lab.container(node, &format!("c{}", node.number), &[(&net, address)]);
        assert_eq!(tcp(&g, &other, address), Some(guest), "to node {}", node.number);
        assert_eq!(tcp(&other, &g, guest), Some(address), "from node {}", node.number);
    }
}

#[test]
fn an_encrypted_network_waits_for_its_tunnel_and_then_uses_it() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = [lab.node(1), lab.node(2)];
    let wishes: Vec<_> = nodes
        .iter()
        .map(|node| {
            node.engine_creates(&net);
            let mut wish = wish(node, &nodes, std::slice::from_ref(&net));
            wish.networks.get_mut(&net.id).unwrap().encrypted = true;
            let report = converge(node, &wish);
            assert!(report.problems.is_empty(), "{report:?}");
            assert_eq!(report.waiting, ["network net0: 1 routes wait for wharf1"]);
            wish
        })
        .collect();
    // A cable stands in for the real tunnel: with proxy ARP it takes whatever its route leads to, as an L3 device does.
    let other = &nodes[1].name;
    shell(&nodes[0].name, &format!("ip link add wharf1 type veth peer name wharf1 netns {other}"));
    for node in &nodes {
        shell(
            &node.name,
            "ip link set wharf1 up; echo 1 > /proc/sys/net/ipv4/conf/wharf1/proxy_arp; echo 0 > /proc/sys/net/ipv4/neigh/wharf1/proxy_delay",
        );
    }
    for (node, wish) in nodes.iter().zip(&wishes) {
        let report = converge(node, wish);
        assert!(report.problems.is_empty() && report.waiting.is_empty(), "{report:?}");
        assert_eq!(check(node, wish), Vec::<String>::new());
    }
    let (at_a, at_b) = (net.address(&nodes[0], 10), net.address(&nodes[1], 10));
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    let b = lab.container(&nodes[1], "b", &[(&net, at_b)]);
    assert_eq!(tcp(&a, &b, at_b), Some(at_a));
    assert!(picture(&nodes[0]).contains("dev wharf1"));
}

#[test]
fn a_bridge_that_appears_later_is_told_of_and_then_served() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = [lab.node(1), lab.node(2)];
    let late = wish(&nodes[0], &nodes, std::slice::from_ref(&net));
    let report = converge(&nodes[0], &late);
    assert_eq!(report.waiting, ["network net0: its bridge wh-net0 is not there yet"]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let watched = nodes[0].name.clone();
    let events = std::thread::spawn(move || {
        within(&watched, async || {
            let wire = Wire::new(Host::default()).unwrap();
            let mut events = wire.watch_links().await.unwrap();
            sender.send(()).unwrap();
            let mut seen = Vec::new();
            while let Some(event) =
                tokio::time::timeout(std::time::Duration::from_secs(10), events.recv()).await.unwrap()
            {
                seen.push((event.name.clone(), event.change));
                if event.change == LinkChange::Vanished {
                    break;
                }
            }
            seen
        })
    });
    receiver.recv().unwrap();
    nodes[0].engine_creates(&net);
    let report = converge(&nodes[0], &late);
    assert!(report.problems.is_empty() && report.waiting.is_empty(), "{report:?}");
    assert_eq!(check(&nodes[0], &late), Vec::<String>::new());
    shell(&nodes[0].name, "ip link add other type bridge; ip link del other; ip link del wh-net0");
    let seen = events.join().unwrap();
    let of_bridge = |change| (net.bridge.clone(), change);
    assert_eq!(
        seen,
        [LinkChange::Appeared, LinkChange::Switched, LinkChange::Switched, LinkChange::Vanished].map(of_bridge)
    );
}

#[test]
fn facts_name_the_way_out_and_the_ranges_in_use() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    shell(&nodes[0].name, "ip route add 10.9.0.0/16 via 172.31.0.2; ip route add default via 172.31.0.2");
    let ask = |towards: Ipv4Addr| {
        within(&nodes[0].name, async || wharf_agent::wire::facts(&Host::default(), towards.into()).await)
    };
    for towards in [nodes[1].underlay(), Ipv4Addr::LOCALHOST, nodes[0].underlay()] {
        let facts = ask(towards).unwrap();
        assert_eq!((facts.underlay, facts.interface.as_str()), (nodes[0].underlay(), "eth0"));
        assert_eq!(facts.underlay_mtu, 1500);
        assert_eq!(facts.routes, ["10.9.0.0/16".parse().unwrap(), "172.31.0.0/24".parse().unwrap()]);
        assert!(facts.vxlan);
    }
    let stranger = lab.node(9);
    let facts =
        within(&stranger.name, async || wharf_agent::wire::facts(&Host::default(), nodes[0].underlay().into()).await)
            .unwrap();
    assert!(facts.vxlan, "without a tunnel, a probe tells");
    assert!(!shell(&stranger.name, "ip link").contains("whprobe0"));
}

#[test]
fn names_are_asked_for_only_from_fleet_bridges_and_named_interfaces() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 2, std::slice::from_ref(&net));
    shell(&nodes[0].name, "iptables -P INPUT DROP");
    let a = lab.container(&nodes[0], "a", &[(&net, net.address(&nodes[0], 10))]);
    let gateway = net.gateway(&nodes[0]);
    let server = in_namespace(&nodes[0].name, || std::net::UdpSocket::bind((gateway, 53)).unwrap());
    server.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    in_namespace(&a, || {
        let client = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        client.send_to(b"?", (gateway, 53)).unwrap();
    });
    let mut query = [0; 8];
    let (length, from) = server.recv_from(&mut query).unwrap();
    assert_eq!(
        (length, from.ip()),
        (1, net.address(&nodes[0], 10).into()),
        "the query carries the container's address"
    );
}
