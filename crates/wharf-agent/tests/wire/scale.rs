//! What a large wish costs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use tokio::time::Instant;
use wharf_agent::wire::{Host, Network, Peer, Wire, Wish};

use crate::lab::{Lab, VXLAN_PORT, shell, within};

const NETWORKS: u8 = 200;
const PEERS: u8 = 50;

fn large_wish(underlay: Ipv4Addr) -> Wish {
    let peer = |n: u8| Peer { tunnel_address: [10, 255, 1, n].into(), underlay: [172, 31, 0, 100 + n].into() };
    let slice = |net: u8, n: u8| Ipv4Net::new(Ipv4Addr::new(11, net, n, 0), 25).unwrap();
    let network = |net: u8| Network {
        bridge: format!("wh-{net}"),
        range: Ipv4Net::new(Ipv4Addr::new(11, net, 0, 0), 16).unwrap(),
        range6: None,
        internal: net.is_multiple_of(2),
        encrypted: false,
        own: vec![slice(net, 0).into()],
        remote: (1..=PEERS).map(|n| (slice(net, n).into(), u32::from(n))).collect(),
        neighbours: Default::default(),
    };
    Wish {
        tunnel_address: Ipv4Addr::new(10, 255, 1, 0),
        underlay,
        mtu: 1370,
        vxlan_port: VXLAN_PORT,
        secure_port: None,
        peers: (1..=PEERS).map(|n| (u32::from(n), peer(n))).collect::<BTreeMap<_, _>>(),
        networks: (0..NETWORKS).map(|net| (format!("{net:03}"), network(net))).collect(),
        dns_bridges: Default::default(),
    }
}

#[test]
fn two_hundred_networks_of_fifty_nodes_converge() {
    let lab = Lab::new();
    let node = lab.node(1);
    let bridges: String =
        (0..NETWORKS).map(|net| format!("link add wh-{net} type bridge\nlink set wh-{net} up\n")).collect();
    let batch = std::env::temp_dir().join(format!("wire-batch-{}", std::process::id()));
    std::fs::write(&batch, bridges).unwrap();
    shell(&node.name, &format!("ip -batch {}", batch.display()));
    std::fs::remove_file(batch).unwrap();
    let mut wish = large_wish(node.underlay());
    within(&node.name, async || {
        let mut wire = Wire::new(Host::default()).unwrap();
        let missing = wish.networks.remove("100").unwrap();
        for what in ["from nothing", "nothing to do", "one network more", "one network less"] {
            match what {
                "one network more" => drop(wish.networks.insert("100".to_owned(), missing.clone())),
                "one network less" => drop(wish.networks.remove("100")),
                _ => {}
            }
            let start = Instant::now();
            let report = wire.converge(&wish).await;
            println!("{what}: {} changes in {:?}", report.changes(), start.elapsed());
            assert!(report.problems.is_empty() && report.waiting.is_empty(), "{:?}", report.problems);
            assert_eq!(wire.check(&wish).await, Vec::<String>::new());
            // A network's entries: its routes, its rules, its bridge's settings.
            let limit = match what {
                "from nothing" => usize::MAX,
                "nothing to do" => 0,
                _ => usize::from(PEERS) + 16,
            };
            assert!(report.changes() <= limit, "{what}: {} changes", report.changes());
        }
    });
}
