use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use wharf_model::*;

use super::*;
use crate::{Expression, Reason, Requirement, Strategy};

const GIB: u64 = 1 << 30;

fn engine(name: &str, labels: &[(&str, &str)]) -> Arc<Engine> {
    Arc::new(Engine {
        id: format!("ID-{name}").into(),
        hostname: name.into(),
        version: "20.10.24".into(),
        api: ApiVersion::new(1, 41),
        min_api: ApiVersion::new(1, 12),
        total: Resources { cpus: Cpus::from_cores(4), memory: ByteSize(8 * GIB) },
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
    })
}

fn fleet(nodes: u32) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for id in 1..=nodes {
        let endpoint = Endpoint::Tcp { host: format!("10.0.0.{id}"), port: 2375 };
        let mut node = Node::pending(NodeId(id), endpoint, Timestamp::default());
        node.name = format!("node{id}").into();
        node.health = Health::Healthy;
        let zone = if id % 2 == 0 { "even" } else { "odd" };
        node.engine = Some(engine(&node.name, &[("zone", zone)]));
        snapshot.put_node(node);
    }
    snapshot
}

fn promise(snapshot: &mut Snapshot, id: u64, node: NodeId, want: &Workload) {
    snapshot.put_reservation(Reservation {
        id: ReservationId(id),
        name: want.name.clone(),
        node: Some(node),
        image: want.image.clone(),
        resources: want.resources,
        published: want.published.clone(),
        labels: want.labels.clone(),
    });
}

fn memory(gib: u64) -> Workload {
    let resources = Resources { memory: ByteSize(gib * GIB), ..Resources::default() };
    Workload { resources, ..Workload::default() }
}

fn port(host: u16, address: Option<&str>, transport: Transport) -> Workload {
    let address = address.map(|address| address.parse().unwrap());
    let published = vec![PublishedPort { address, host: Some(host), container: 80, transport }];
    Workload { published, ..Workload::default() }
}

fn spread() -> Policy {
    Policy::new(Strategy::Spread)
}

/// Places one after the other; how many came to each node.
fn fill(snapshot: &mut Snapshot, policy: &Policy, want: &Workload, count: u64) -> BTreeMap<NodeId, usize> {
    let mut filled = BTreeMap::new();
    for id in 0..count {
        let Ok(placement) = place(want, snapshot, policy, Seed(id)) else { break };
        promise(snapshot, id, placement.node, want);
        *filled.entry(placement.node).or_default() += 1;
    }
    filled
}

#[test]
fn spread_is_even_and_binpack_fills_one_node_first() {
    let filled = fill(&mut fleet(3), &spread(), &Workload::default(), 30);
    assert_eq!(filled.into_values().collect::<Vec<_>>(), [10, 10, 10]);
    let filled = fill(&mut fleet(3), &Policy::new(Strategy::Binpack), &memory(2), 4);
    assert_eq!(filled.into_values().collect::<Vec<_>>(), [4]);
}

#[test]
fn memory_is_never_promised_twice() {
    let mut snapshot = fleet(2);
    // 8 GiB and 5 % more: four times 2 GiB.
    assert_eq!(fill(&mut snapshot, &spread(), &memory(2), 100).into_values().sum::<usize>(), 8);
    let refusal = place(&memory(2), &snapshot, &spread(), Seed(0)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Unable to find a node that satisfies the following conditions\n  node1, node2: lacks memory: 2 GiB asked for, \
         409.6 MiB free"
    );
    assert!(place(&Workload::default(), &snapshot, &spread(), Seed(0)).is_ok(), "what reserves nothing fits");
}

#[test]
fn a_port_is_had_once_per_address_and_transport() {
    let mut snapshot = fleet(1);
    promise(&mut snapshot, 1, NodeId(1), &port(80, Some("10.0.0.1"), Transport::Tcp));
    let fits = |want: Workload| place(&want, &snapshot, &spread(), Seed(0)).is_ok();
    assert!(!fits(port(80, None, Transport::Tcp)));
    assert!(!fits(port(80, Some("10.0.0.1"), Transport::Tcp)));
    assert!(fits(port(80, Some("10.0.0.2"), Transport::Tcp)));
    assert!(fits(port(80, None, Transport::Udp)));
    assert!(fits(port(81, None, Transport::Tcp)));
    let host = Workload { host_ports: vec![(80, Transport::Tcp)], ..Workload::default() };
    assert!(!fits(host));
}

#[test]
fn constraints_are_kept_and_wishes_are_tried() {
    let snapshot = fleet(4);
    let with = |texts: &[&str]| Workload {
        constraints: texts.iter().map(|text| Expression::parse(text).unwrap()).collect(),
        ..Workload::default()
    };
    let node = |texts: &[&str]| place(&with(texts), &snapshot, &spread(), Seed(1)).map(|placement| placement.node);
    assert_eq!(node(&["node==node3"]), Ok(NodeId(3)));
    assert_eq!(node(&["node==ID-node2"]), Ok(NodeId(2)));
    assert_eq!(node(&["node==10.0.0.4:2375"]), Ok(NodeId(4)));
    assert_eq!(node(&["zone==even", "node!=node2"]), Ok(NodeId(4)));
    assert_eq!(node(&["zone==even", "node==~node1"]).map(|node| node.0 % 2), Ok(0));
    assert_eq!(node(&["zone==odd", "node==~node3"]), Ok(NodeId(3)));
    let refusal = node(&["zone==north"]).unwrap_err();
    assert_eq!(refusal.rejected[0].filter, "constraint");
    assert!(refusal.to_string().contains("node1, node3: constraint zone==north fails: it is odd"));
}

#[test]
fn what_a_container_depends_on_decides() {
    let requirement =
        Requirement { what: "network blue".into(), nodes: [NodeId(2)].into(), names: vec!["node2".into()] };
    let want = Workload { requirements: vec![requirement], ..Workload::default() };
    assert_eq!(place(&want, &fleet(3), &spread(), Seed(0)).unwrap().node, NodeId(2));
    let refusal = place(&want, &fleet(1), &spread(), Seed(0)).unwrap_err();
    assert!(refusal.to_string().ends_with("node1: network blue is on node2"));
}

#[test]
fn those_that_belong_together_are_kept_together_as_long_as_there_is_room() {
    let project = |gib| Workload { labels: [(PROJECT_LABEL, "coins")].into_iter().collect(), ..memory(gib) };
    let mut snapshot = fleet(3);
    assert_eq!(fill(&mut snapshot, &spread(), &project(2), 4).into_values().collect::<Vec<_>>(), [4]);
    assert!(place(&project(2), &snapshot, &spread(), Seed(9)).is_ok(), "a full node is no reason to refuse");
}

#[test]
fn unhealthy_excluded_and_suspected_nodes_are_avoided() {
    let mut snapshot = fleet(3);
    let mut down = Node::clone(snapshot.node(NodeId(1)).unwrap());
    down.health = Health::Unhealthy;
    snapshot.put_node(down);
    let want = Workload { exclude: [NodeId(2)].into(), ..Workload::default() };
    assert_eq!(place(&want, &snapshot, &spread(), Seed(0)).unwrap().node, NodeId(3));
    let suspecting = Policy { suspects: [NodeId(3)].into(), ..spread() };
    assert_eq!(place(&Workload::default(), &snapshot, &suspecting, Seed(0)).unwrap().node, NodeId(2));
    assert_eq!(place(&want, &snapshot, &suspecting, Seed(0)).unwrap().node, NodeId(3), "better than none");
    let none = place(&Workload::default(), &Snapshot::default(), &spread(), Seed(0)).unwrap_err();
    assert!(none.to_string().starts_with("No healthy node available in the cluster"));
    let all = Workload { exclude: [NodeId(2), NodeId(3)].into(), ..Workload::default() };
    let reasons = place(&all, &snapshot, &spread(), Seed(0)).unwrap_err().rejected;
    assert_eq!(reasons[0].reason, Reason::Unhealthy("does not answer"));
}

#[test]
fn a_refusal_of_a_large_fleet_is_short() {
    let text = place(&memory(100), &fleet(1000), &spread(), Seed(0)).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("and 995 more: lacks memory"));
}

proptest! {
    #[test]
    fn no_rule_is_ever_broken(wishes in prop::collection::vec((0..5u64, 0..3u16, 0..3u8), 1..40), seed: u64) {
        let mut snapshot = fleet(3);
        for (id, (gib, host, zone)) in wishes.into_iter().enumerate() {
            let mut want = memory(gib);
            if host > 0 {
                want.published = port(host, None, Transport::Tcp).published;
            }
            if zone > 0 {
                let zone = if zone == 1 { "zone==even" } else { "zone!=even" };
                want.constraints.push(Expression::parse(zone).unwrap());
            }
            let placed = place(&want, &snapshot, &spread(), Seed(seed));
            prop_assert_eq!(&placed, &place(&want, &snapshot, &spread(), Seed(seed)), "the same question, the same answer");
            let Ok(placement) = placed else { continue };
            let zone = if placement.node.0.is_multiple_of(2) { "even" } else { "odd" };
            prop_assert!(want.constraints.iter().all(|rule| rule.holds([zone])));
            promise(&mut snapshot, id as u64, placement.node, &want);
        }
        for node in 1..=3 {
            let here: Vec<_> = snapshot.reservations().filter(|promise| promise.node == Some(NodeId(node))).collect();
            prop_assert!(here.iter().map(|promise| promise.resources.memory.0).sum::<u64>() * 100 <= 8 * GIB * 105);
            let ports: Vec<_> = here.iter().flat_map(|promise| promise.published.iter().map(|port| port.host)).collect();
            prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
        }
    }
}
