//! Stale state goes, damage is healed, others' things stay, and a cleanup leaves nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::icmp::{Pinger, ping};
use crate::lab::{Lab, Net, Node, check, converge, fleet, heals, picture, shell, tcp, wish, within};
use wharf_agent::wire::{Host, Problem, Wire};

const RIGHT: [String; 0] = [];

#[test]
fn a_second_converge_changes_nothing() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 3, &nets);
    for node in &nodes {
        let wish = wish(node, &nodes, &nets);
        assert_eq!(check(node, &wish), RIGHT);
        let before = picture(node);
        assert_eq!(converge(node, &wish).done, RIGHT);
        assert_same(&picture(node), &before);
    }
}

#[test]
fn every_damage_is_seen_and_healed() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nets = std::slice::from_ref(&net);
    let nodes = fleet(&lab, 3, nets);
    let wish = wish(&nodes[0], &nodes, nets);
    let (at_a, at_b) = (net.address(&nodes[0], 10), net.address(&nodes[1], 10));
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    let b = lab.container(&nodes[1], "b", &[(&net, at_b)]);
    let right = picture(&nodes[0]);
    let damages = [
        "ip link del wharf0",
        "ip link set wharf0 down",
        "ip link set wharf0 mtu 1300",
        "ip link set wharf0 address 02:00:00:00:00:01",
        "ip link del wharf0; ip link add wharf0 type bridge",
        "ip link del wharf0; ip link add wharf0 type vxlan id 9 dstport 4999 remote 172.31.0.9",
        "ip addr flush dev wharf0",
        "ip addr add 10.255.0.77/32 dev wharf0",
        "ip route flush proto 87",
        "ip route replace 10.192.2.0/25 via 10.255.0.3 dev wharf0 onlink proto 87",
        "ip neigh flush dev wharf0 nud permanent",
        "ip neigh replace 10.255.0.2 lladdr 02:00:00:00:00:02 dev wharf0 nud permanent",
        "bridge fdb del 02:77:0a:ff:00:02 dev wharf0 dst 172.31.0.2",
        "bridge fdb replace 02:77:0a:ff:00:02 dev wharf0 dst 172.31.0.3",
        "bridge fdb append 00:00:00:00:00:00 dev wharf0 dst 172.31.0.66",
        "iptables -F WHARF-FORWARD",
        "iptables -F DOCKER-USER",
        "iptables -I DOCKER-USER -i eth9 -j RETURN",
        "iptables -I WHARF-FROM-TUNNEL -j ACCEPT",
        "iptables -D WHARF-TO-TUNNEL 2",
        "iptables -A FORWARD -j WHARF-FORWARD",
        "iptables -D INPUT -j WHARF-INPUT; iptables -F WHARF-INPUT; iptables -X WHARF-INPUT",
        "iptables -t nat -F",
        "echo 0 > /proc/sys/net/ipv4/conf/wh-net0/proxy_arp",
        "echo 80 > /proc/sys/net/ipv4/neigh/wh-net0/proxy_delay",
        "echo 1 > /proc/sys/net/ipv4/conf/wharf0/rp_filter",
    ];
    heals(&nodes[0], &wish, &damages, || tcp(&a, &b, at_b) == Some(at_a));
    let (mut right, mut now) = (stable(&right), stable(&picture(&nodes[0])));
    // What was flushed of the engine's, and what was added to its chain, is not ours to mend.
    let engines =
        |line: &String| ["172.17.0.0/16", "DOCKER-USER -j RETURN", "eth9"].iter().any(|part| line.contains(part));
    right.retain(|line| !engines(line));
    now.retain(|line| !engines(line));
    assert_eq!(now, right);
}

/// Fails with the lines that only one of two pictures has.
fn assert_same(now: &str, before: &str) {
    let only =
        |a: &str, b: &str| a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(str::to_owned).collect();
    let (new, gone): (Vec<String>, Vec<String>) = (only(now, before), only(before, now));
    assert_eq!((new, gone), (Vec::new(), Vec::new()));
    assert_eq!(now, before);
}

/// A picture without what differs between a device and another like it, and without what the containers added.
fn stable(picture: &str) -> Vec<String> {
    let without = |line: &&str| !["wharf0:", "master", "va0"].iter().any(|part| line.contains(part));
    let iptables = picture.lines().skip_while(|line| !line.starts_with('*'));
    let mut lines: Vec<String> = iptables.filter(without).map(str::to_owned).collect();
    lines.extend(
        picture.lines().filter(|line| line.contains("proto 87") || line.contains("dst 172.")).map(str::to_owned),
    );
    lines.sort();
    lines
}

#[test]
fn what_left_the_wish_is_removed_and_what_others_made_stays() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 3, &nets);
    let foreign = "ip route add 10.77.0.0/16 via 172.31.0.2
        ip route add 10.78.0.0/16 dev eth0 proto 88
        ip route add 10.79.0.0/16 dev eth0 table 100 proto 87
        ip neigh add 172.31.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent
        ip link add vx9 type vxlan id 9 dstport 4999 local 172.31.0.1; ip link set vx9 up
        bridge fdb append 02:00:00:00:00:98 dev vx9 dst 172.31.0.98
        iptables -A DOCKER-USER -s 203.0.113.7 -j DROP
        iptables -A INPUT -p tcp --dport 22 -j ACCEPT
        iptables -t nat -A POSTROUTING -o tun9 -j MASQUERADE";
    shell(&nodes[0].name, foreign);
    let before = picture(&nodes[0]);
    // The third node and the second network are gone.
    let smaller = wish(&nodes[0], &nodes[..2], &nets[..1]);
    assert_ne!(check(&nodes[0], &smaller), RIGHT);
    assert!(converge(&nodes[0], &smaller).problems.is_empty());
    assert_eq!(check(&nodes[0], &smaller), RIGHT);
    let after = picture(&nodes[0]);
    for stale in [
        "10.192.3.0/25",
        "10.193.2.0/25",
        "10.255.0.3 ",
        "172.31.0.3",
        "-A WHARF-BRIDGES -i wh-net1",
        "conf/wh-net1/proxy_arp 1",
    ] {
        assert!(before.contains(stale) && !after.contains(stale), "{stale} in\n{after}");
    }
    let kept = [
        "10.77.0.0/16",
        "10.78.0.0/16",
        "10.79.0.0/16",
        "172.31.0.99",
        "172.31.0.98",
        "203.0.113.7",
        "dport 22",
        "tun9",
    ];
    for kept in kept {
        assert!(after.contains(kept), "{kept} in\n{after}");
    }
    // And back again.
    let whole = wish(&nodes[0], &nodes, &nets);
    assert!(converge(&nodes[0], &whole).problems.is_empty());
    assert_same(&picture(&nodes[0]), &before);
}

#[test]
fn a_foreign_route_is_reported_and_left() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nets = std::slice::from_ref(&net);
    let nodes = [lab.node(1), lab.node(2), lab.node(3)];
    nodes[0].engine_creates(&net);
    shell(&nodes[0].name, "ip route add 10.192.2.0/25 dev eth0; ip route add 10.192.3.4/32 dev eth0");
    let wish = wish(&nodes[0], &nodes, nets);
    let report = converge(&nodes[0], &wish);
    let said: Vec<String> = report.problems.iter().map(Problem::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("route 10.192.2.0/25 on eth0 is not ours"), "{said:?}");
    assert!(said[1].contains("route 10.192.3.4/32 on eth0 is not ours and in the way of 10.192.3.0/25"), "{said:?}");
    let routes = shell(&nodes[0].name, "ip route");
    assert!(routes.contains("10.192.2.0/25 dev eth0") && routes.contains("10.192.3.0/25 via 10.255.0.3"), "{routes}");
}

#[test]
fn a_taken_port_is_reported_by_name_and_the_rest_is_done() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nets = std::slice::from_ref(&net);
    let nodes = [lab.node(1), lab.node(2)];
    nodes[0].engine_creates(&net);
    let wish = wish(&nodes[0], &nodes, nets);
    let said = |report: &wharf_agent::wire::Report| {
        report.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    };
    let socket = crate::lab::in_namespace(&nodes[0].name, || std::net::UdpSocket::bind("0.0.0.0:4790").unwrap());
    let report = converge(&nodes[0], &wish);
    assert!(said(&report).starts_with("UDP port 4790 is in use by another program"), "{}", said(&report));
    assert!(shell(&nodes[0].name, "iptables-save").contains("WHARF-FORWARD"));
    drop(socket);
    shell(
        &nodes[0].name,
        &format!(
            "ip link del wharf0; ip link add vx9 type vxlan id {} dstport 4790 local 172.31.0.1",
            wharf_agent::wire::TUNNEL_VNI
        ),
    );
    let report = converge(&nodes[0], &wish);
    assert!(said(&report).contains("in use by the VXLAN device vx9"), "{}", said(&report));
    shell(&nodes[0].name, "ip link del vx9");
    assert!(converge(&nodes[0], &wish).problems.is_empty());
    assert_eq!(check(&nodes[0], &wish), RIGHT);
}

#[test]
fn a_kernel_that_does_not_forward_is_reported() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = fleet(&lab, 1, std::slice::from_ref(&net));
    shell(&nodes[0].name, "echo 0 > /proc/sys/net/ipv4/ip_forward");
    let report = converge(&nodes[0], &wish(&nodes[0], &nodes, &[net]));
    assert!(matches!(report.problems[..], [Problem::ForwardingOff { .. }]), "{report:?}");
}

#[test]
fn a_broken_network_is_left_out_and_the_others_are_made() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 2, &nets);
    let mut wish = wish(&nodes[0], &nodes, &nets);
    wish.networks.get_mut("net0").unwrap().bridge = "wh-x -j ACCEPT".to_owned();
    let report = converge(&nodes[0], &wish);
    assert!(matches!(report.problems[..], [Problem::InvalidNetwork { .. }]), "{report:?}");
    let after = picture(&nodes[0]);
    assert!(after.contains("10.193.2.0/25") && !after.contains("10.192.2.0/25"));
}

#[test]
fn a_cleanup_leaves_the_node_as_it_was_and_may_be_repeated() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nodes = [lab.node(1), lab.node(2)];
    nodes[0].engine_creates(&net);
    // Both tables exist on a node with an engine; its bridge is as the engine left it.
    let before = picture(&nodes[0]);
    let wish = wish(&nodes[0], &nodes, std::slice::from_ref(&net));
    assert!(converge(&nodes[0], &wish).problems.is_empty());
    assert_ne!(picture(&nodes[0]), before);
    let clean = || within(&nodes[0].name, async || Wire::new(Host::default()).unwrap().cleanup().await);
    let report = clean();
    assert!(report.problems.is_empty(), "{report:?}");
    assert_same(&picture(&nodes[0]), &before);
    assert_eq!(clean().done, RIGHT);
}

#[test]
fn rules_follow_the_engine_to_its_kind_of_tables() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let nets = std::slice::from_ref(&net);
    let nodes = fleet(&lab, 2, nets);
    let wish = wish(&nodes[0], &nodes, nets);
    shell(
        &nodes[0].name,
        "iptables-legacy -P FORWARD DROP
         iptables-legacy -N DOCKER-USER
         iptables-legacy -A FORWARD -j DOCKER-USER
         iptables-legacy -A FORWARD -i wh-net0 -j ACCEPT
         iptables -P FORWARD ACCEPT
         iptables -D FORWARD -j DOCKER-USER; iptables -F DOCKER-USER; iptables -X DOCKER-USER",
    );
    let report = converge(&nodes[0], &wish);
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(shell(&nodes[0].name, "iptables-legacy-save").contains("-A DOCKER-USER -j WHARF-FORWARD"));
    assert!(!shell(&nodes[0].name, "iptables-nft-save").contains("WHARF"));
    assert_eq!(check(&nodes[0], &wish), RIGHT);
    let (at_a, at_b) = (net.address(&nodes[0], 10), net.address(&nodes[1], 10));
    let a = lab.container(&nodes[0], "a", &[(&net, at_a)]);
    lab.container(&nodes[1], "b", &[(&net, at_b)]);
    assert!(ping(&a, at_b));
    let report = within(&nodes[0].name, async || Wire::new(Host::default()).unwrap().cleanup().await);
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(!shell(&nodes[0].name, "iptables-legacy-save").contains("WHARF"));
}

#[test]
fn the_host_s_program_is_run_in_its_root() {
    let (lab, net) = (Lab::new(), Net::new(0));
    let node = lab.node(1);
    node.engine_creates(&net);
    let wish = wish(&node, std::slice::from_ref(&node), &[net]);
    let host = Host { root: Some("/".into()) };
    let report = within(&node.name, async || Wire::new(host).unwrap().converge(&wish).await);
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(check(&node, &wish), RIGHT);
    // A root without the program: said so, and all else is done.
    let empty = std::env::temp_dir().join(format!("wire-root-{}", std::process::id()));
    std::fs::create_dir_all(&empty).unwrap();
    shell(&node.name, "ip link del wharf0");
    let host = Host { root: Some(empty.clone()) };
    let report = within(&node.name, async || Wire::new(host).unwrap().converge(&wish).await);
    std::fs::remove_dir_all(empty).unwrap();
    assert!(matches!(report.problems[..], [Problem::NoFilterProgram]), "{report:?}");
    assert_eq!(check(&node, &wish), RIGHT);
}

#[test]
fn converges_lose_no_packet() {
    let (lab, nets) = (Lab::new(), [Net::new(0), Net::new(1)]);
    let nodes = fleet(&lab, 3, &nets);
    let (at_a, at_b) = (nets[0].address(&nodes[0], 10), nets[0].address(&nodes[1], 10));
    let a = lab.container(&nodes[0], "a", &[(&nets[0], at_a)]);
    lab.container(&nodes[1], "b", &[(&nets[0], at_b)]);
    let pinger = Pinger::new(&a, at_b);
    let running = AtomicBool::new(true);
    // New processes that find things right, and another network and node that come and go beside the one in use.
    let turn = |node: &Node, count: usize, networks: usize| {
        assert!(converge(node, &wish(node, &nodes[..count], &nets[..networks])).problems.is_empty());
    };
    let lost = std::thread::scope(|scope| {
        let lost = scope.spawn(|| {
            let asked = (0..u16::MAX).take_while(|_| running.load(Ordering::Relaxed));
            asked.filter(|sequence| !pinger.ask(*sequence)).collect::<Vec<_>>()
        });
        for _ in 0..5 {
            for node in &nodes[..2] {
                turn(node, 3, 2);
                turn(node, 2, 1);
            }
        }
        running.store(false, Ordering::Relaxed);
        lost.join().unwrap()
    });
    assert_eq!(lost, Vec::<u16>::new());
}
