use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use crate::*;

fn container(id: u8, node: u32, name: &str, phase: Phase) -> Container {
    Container {
        id: ContainerId::from_bytes([id; 32]),
        node: NodeId(node),
        name: name.into(),
        image: "busybox".into(),
        image_id: None,
        created: Timestamp::from_secs(i64::from(id)),
        phase,
        exit_code: 0,
        started: None,
        finished: None,
        health: ContainerHealth::None,
        labels: Labels::default(),
        reserved: Resources::default(),
        published: Vec::new(),
        exposed: Vec::new(),
        network_mode: "bridge".into(),
        networks: Vec::new(),
        mounts: Vec::new(),
        entry: "".into(),
        fingerprint: 0,
        listed: None,
    }
}

fn node(id: u32) -> Node {
    let endpoint = Endpoint::Tcp { host: format!("10.0.0.{id}"), port: 2375 };
    let mut node = Node::pending(NodeId(id), endpoint, Timestamp::default());
    node.health = Health::Healthy;
    node.name = format!("node{id}").into();
    node
}

fn fleet(containers: Vec<Container>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    (1..=3).for_each(|id| snapshot.put_node(node(id)));
    containers.into_iter().for_each(|container| snapshot.put_container(container));
    snapshot
}

fn found(snapshot: &Snapshot, reference: &str) -> Result<u8, &'static str> {
    match snapshot.resolve(reference) {
        Resolution::One(container) => {
            Ok(container.id.short().get(..2).map_or(0, |hex| u8::from_str_radix(hex, 16).unwrap()))
        }
        Resolution::Unknown => Err("unknown"),
        Resolution::Ambiguous(_) => Err("ambiguous"),
    }
}

#[test]
fn a_container_answers_to_id_prefix_name_and_node_name() {
    let snapshot = fleet(vec![
        container(0x1a, 1, "web", Phase::Running),
        container(0x1b, 2, "db", Phase::Running),
        container(0x2c, 2, "1a", Phase::Running),
    ]);
    assert_eq!(found(&snapshot, &"1a".repeat(32)), Ok(0x1a));
    assert_eq!(found(&snapshot, "web"), Ok(0x1a));
    assert_eq!(found(&snapshot, "/web"), Ok(0x1a));
    assert_eq!(found(&snapshot, "node1/web"), Ok(0x1a));
    assert_eq!(found(&snapshot, "/node1/web"), Ok(0x1a));
    assert_eq!(found(&snapshot, "10.0.0.1:2375/web"), Ok(0x1a));
    assert_eq!(found(&snapshot, "node2/web"), Err("unknown"));
    assert_eq!(found(&snapshot, "1b1"), Ok(0x1b));
    assert_eq!(found(&snapshot, "1"), Err("ambiguous"));
    assert_eq!(found(&snapshot, "1a"), Ok(0x2c), "a name goes before an id prefix");
    assert_eq!(found(&snapshot, "nothing"), Err("unknown"));
    assert_eq!(found(&snapshot, ""), Err("unknown"));
}

#[test]
fn of_twins_the_living_one_is_meant() {
    let mut snapshot = fleet(vec![container(1, 1, "web", Phase::Exited), container(2, 2, "web", Phase::Running)]);
    assert_eq!(found(&snapshot, "web"), Ok(2));
    assert_eq!(found(&snapshot, "node1/web"), Ok(1));
    let mut down = Node::clone(snapshot.node(NodeId(2)).unwrap());
    down.health = Health::Unhealthy;
    snapshot.put_node(down);
    assert_eq!(found(&snapshot, "web"), Err("ambiguous"));
}

#[test]
fn a_renamed_or_removed_container_leaves_no_name_behind() {
    let mut snapshot = fleet(vec![container(1, 1, "old", Phase::Running)]);
    snapshot.put_container(container(1, 1, "new", Phase::Running));
    assert!(!snapshot.name_taken("old") && snapshot.name_taken("new"));
    snapshot.remove_container(NodeId(1), ContainerId::from_bytes([1; 32]));
    assert!(!snapshot.name_taken("new"));
    assert_eq!(snapshot.containers().count(), 0);
}

#[test]
fn a_reserved_name_is_taken_until_it_is_released() {
    let mut snapshot = fleet(Vec::new());
    snapshot.put_reservation(Reservation {
        id: ReservationId(7),
        name: Some("web".into()),
        node: Some(NodeId(1)),
        image: "busybox".into(),
        resources: Resources::default(),
        published: Vec::new(),
        labels: Labels::default(),
    });
    assert!(snapshot.name_taken("web"));
    snapshot.remove_reservation(ReservationId(7));
    assert!(!snapshot.name_taken("web"));
}

proptest! {
    /// Whatever is put and removed in whatever order, the indexes hold what the nodes hold, and nothing else.
    #[test]
    fn the_indexes_hold_what_the_nodes_hold(steps in prop::collection::vec((0..4u8, 0..6u8, 1..4u32, 0..3u8), 0..60)) {
        let mut snapshot = fleet(Vec::new());
        for (kind, id, at, name) in steps {
            match kind {
                // An id lives on one node only: a move is a removal first.
                0 | 1 => {
                    for other in 1..4 {
                        snapshot.remove_container(NodeId(other), ContainerId::from_bytes([id; 32]));
                    }
                    let phase = if id % 2 == 0 { Phase::Running } else { Phase::Exited };
                    let mut container = container(id, at, &format!("name{name}"), phase);
                    container.reserved.memory = ByteSize(u64::from(id));
                    container.published.push(PublishedPort::on_host(u16::from(id % 3) + 1, Transport::Tcp));
                    container.labels = [(PROJECT_LABEL, format!("project{name}"))].into_iter().collect();
                    snapshot.put_container(container);
                }
                2 => snapshot.remove_container(NodeId(at), ContainerId::from_bytes([id; 32])),
                _ => snapshot.put_node(node(at)),
            }
        }
        let on_nodes: BTreeMap<_, _> = snapshot.nodes().flat_map(|node| &node.containers).map(|(id, c)| (*id, Arc::clone(c))).collect();
        prop_assert_eq!(snapshot.container_count(), on_nodes.len());
        prop_assert_eq!(snapshot.containers().count(), on_nodes.len());
        for (id, container) in on_nodes {
            prop_assert!(Arc::ptr_eq(snapshot.container(id).unwrap(), &container));
            prop_assert!(snapshot.containers_named(&container.name).any(|named| named.id == id));
        }
        for node in snapshot.nodes() {
            let mut load = Load::default();
            node.containers.values().for_each(|container| load += container);
            prop_assert_eq!(node.load(), &load, "the sums are those of the containers that are there");
        }
        let named: usize = (0..3).map(|name| snapshot.containers_named(&format!("name{name}")).count()).sum();
        prop_assert_eq!(named, snapshot.container_count());
    }
}
