use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use wharf_model::*;

use super::*;
use crate::{Expression, Platform, Reason, Requirement, Strategy};

const GIB: u64 = 1 << 30;

fn engine(name: &str, labels: &[(&str, &str)]) -> Arc<Engine> {
    Arc::new(Engine {
        id: format!("ID-{name}").into(),
        hostname: name.into(),
        version: "20.10.24".into(),
        api: ApiVersion::new(1, 41),
        min_api: ApiVersion::new(1, 12),
        total: Resources { cpus: Cpus::from_cores(4), memory: ByteSize(8 * GIB) },
        nftables: false,
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

fn with(change: impl FnOnce(&mut Workload)) -> Workload {
    let mut want = Workload::default();
    change(&mut want);
    want
}

fn expressions(texts: &[&str]) -> Vec<Expression> {
    texts.iter().map(|text| Expression::parse(text).unwrap()).collect()
}

/// Names the nodes on which a workload may be.
fn fitting(want: &Workload, snapshot: &Snapshot) -> Vec<u32> {
    let policy = spread();
    let verdicts = judge(want, snapshot, &policy, Seed(1));
    verdicts.filter(|verdict| verdict.outcome.is_ok()).map(|verdict| verdict.node.0).collect()
}

#[test]
fn containers_that_keep_apart_do_so_while_they_are_promised() {
    let mut snapshot = fleet(2);
    let apart = with(|want| {
        want.affinities = expressions(&["role!=db"]);
        want.labels = [("role", "db")].into_iter().collect();
    });
    let filled = fill(&mut snapshot, &spread(), &apart, 3);
    assert_eq!(filled.into_values().collect::<Vec<_>>(), [1, 1], "two of three on two nodes");
    let refusal = place(&apart, &snapshot, &spread(), Seed(9)).unwrap_err().to_string();
    assert!(refusal.ends_with("node1, node2: affinity role!=db fails"), "{refusal}");
    let near = with(|want| want.affinities = expressions(&["role==/^d/"]));
    assert_eq!(fitting(&near, &snapshot), [1, 2]);
}

#[test]
fn affinities_are_to_containers_and_images_by_any_of_their_names() {
    let mut snapshot = fleet(3);
    let mut named = with(|_| ());
    named.name = Some("web_1".into());
    promise(&mut snapshot, 1, NodeId(2), &named);
    let mut node = Node::clone(snapshot.node(NodeId(3)).unwrap());
    let id = ImageId::from_bytes([9; 32]);
    let image = Image {
        id,
        tags: vec!["registry.example:5000/team/redis:7".into()],
        digests: Vec::new(),
        created: Timestamp::default(),
        tagged: None,
        labels: Labels::default(),
        entry: "{}".into(),
    };
    Arc::make_mut(&mut node.images).insert(id, Arc::new(image));
    snapshot.put_node(node);
    let on = |text: &str| fitting(&with(|want| want.affinities = expressions(&[text])), &snapshot);
    assert_eq!(on("container==web_1"), [2]);
    assert_eq!(on("container==web_*"), [2]);
    assert_eq!(on("container!=web_1"), [1, 3]);
    assert_eq!(on("container==~web_9"), [1, 2, 3], "a wish may fail");
    for name in
        ["registry.example:5000/team/redis:7", "registry.example:5000/team/redis", &id.to_string(), "090909090909"]
    {
        assert_eq!(on(&format!("image=={name}")), [3], "{name}");
    }
    assert_eq!(on("image==redis"), [] as [u32; 0]);
    let wish = with(|want| want.affinities = expressions(&["container==~web_1"]));
    assert_eq!(place(&wish, &snapshot, &spread(), Seed(0)).unwrap().node, NodeId(2), "a wish outweighs the spread");
}

#[test]
fn slots_whitelists_platforms_and_versions_are_kept() {
    let mut snapshot = fleet(3);
    let mut node = Node::clone(snapshot.node(NodeId(1)).unwrap());
    node.labels = Arc::new([("containerslots".into(), "1".into())].into());
    node.engine = Some(
        Engine { api: ApiVersion::new(1, 51), ..Engine::clone(&engine("node1", &[("architecture", "aarch64")])) }
            .into(),
    );
    snapshot.put_node(node);
    promise(&mut snapshot, 1, NodeId(1), &Workload::default());
    let reason = |want: &Workload| {
        let Err(refusal) = place(want, &snapshot, &spread(), Seed(0)) else { return String::new() };
        refusal.to_string()
    };
    assert_eq!(fitting(&Workload::default(), &snapshot), [2, 3], "the slot is promised");
    let listed = with(|want| want.whitelists = vec![["node1".into(), "node3".into()].into()]);
    assert_eq!(fitting(&listed, &snapshot), [3]);
    let only = with(|want| want.whitelists = vec![["node1".into()].into()]);
    assert!(reason(&only).contains("node2, node3: whitelist node==node1 leaves it out"), "{}", reason(&only));
    assert!(reason(&only).contains("node1: no available container slots"));
    snapshot.remove_reservation(ReservationId(1));
    let arm = with(|want| want.platform = Some(Platform::parse("linux/arm64/v8")));
    assert_eq!(fitting(&arm, &snapshot), [1, 2, 3], "engines that do not tell are not ruled out");
    let amd = with(|want| want.platform = Some(Platform::parse("linux/amd64")));
    assert_eq!(fitting(&amd, &snapshot), [2, 3]);
    let new = with(|want| want.api = Some((ApiVersion::new(1, 44), "Healthcheck.StartInterval")));
    assert_eq!(fitting(&new, &snapshot), [1]);
    let mut policy = spread();
    policy.without = vec!["platform"];
    assert_eq!(judge(&new, &snapshot, &policy, Seed(0)).filter(|verdict| verdict.outcome.is_ok()).count(), 3);
}

#[test]
fn a_range_of_ports_needs_one_that_is_free() {
    let mut snapshot = fleet(1);
    let range = PortRange { address: None, first: 8000, last: 8001, transport: Transport::Tcp };
    let want = with(|want| want.ranges = vec![range]);
    promise(&mut snapshot, 1, NodeId(1), &port(8000, None, Transport::Tcp));
    assert_eq!(fitting(&want, &snapshot), [1]);
    promise(&mut snapshot, 2, NodeId(1), &port(8001, None, Transport::Tcp));
    let refusal = place(&want, &snapshot, &spread(), Seed(0)).unwrap_err().to_string();
    assert!(refusal.ends_with("node1: all ports of 8000-8001/tcp are taken"), "{refusal}");
}
