use wharf_model::{Health, Node};

use super::*;
use crate::testing::{image, node};

fn fleet() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.put_node(node(1, vec![image(1, &["app:latest", "app:1"], 100), image(9, &["busybox:latest"], 5)]));
    snapshot.put_node(node(2, vec![image(2, &["app:latest"], 200), image(9, &["busybox:latest"], 6)]));
    snapshot.put_node(node(3, vec![image(3, &[], 300)]));
    snapshot
}

fn id(snapshot: &Snapshot, reference: &str) -> Result<ImageId, String> {
    resolve(snapshot, reference).map(|image| image.id).map_err(|error| error.message)
}

#[test]
fn a_name_means_the_image_that_got_it_last() {
    let mut snapshot = fleet();
    assert_eq!(id(&snapshot, "app"), Ok(ImageId::from_bytes([2; 32])));
    assert_eq!(id(&snapshot, "app:1"), Ok(ImageId::from_bytes([1; 32])));
    assert_eq!(resolve(&snapshot, "busybox").unwrap().holders[..], [NodeId(1), NodeId(2)]);
    assert_eq!(id(&snapshot, "docker.io/library/busybox"), Ok(ImageId::from_bytes([9; 32])));
    assert_eq!(id(&snapshot, "0303"), Ok(ImageId::from_bytes([3; 32])));
    assert_eq!(id(&snapshot, &ImageId::from_bytes([3; 32]).to_string()), Ok(ImageId::from_bytes([3; 32])));
    assert_eq!(id(&snapshot, "nothing"), Err("No such image: nothing:latest".into()));
    assert_eq!(id(&snapshot, "host:5000/app"), Err("No such image: host:5000/app:latest".into()));
    // A node that does not answer has no say while another knows the name.
    let mut down = Node::clone(snapshot.node(NodeId(2)).unwrap());
    down.health = Health::Unhealthy;
    snapshot.put_node(down);
    assert_eq!(id(&snapshot, "app"), Ok(ImageId::from_bytes([1; 32])));
}

#[test]
fn one_image_is_one_entry_and_bears_only_the_names_it_means() {
    let query = ListQuery::parse(&Query::parse("").unwrap()).unwrap();
    let listed = |minor: u16| -> Vec<Value> {
        let listed = list(&fleet(), &query, ApiVersion::new(1, minor)).unwrap();
        serde_json::from_slice(&listed).unwrap()
    };
    for (version, none) in [(42, json!(["<none>:<none>"])), (43, json!([]))] {
        let tags: Vec<_> = listed(version).iter().map(|entry| entry["RepoTags"].clone()).collect();
        assert_eq!(tags, [json!(["busybox:latest"]), none, json!(["app:latest"]), json!(["app:1"])]);
    }
    for entry in listed(43).iter().filter(|entry| entry.get("Size").is_some()) {
        assert_eq!(entry["VirtualSize"], entry["Size"]);
    }
    assert!(listed(44).iter().all(|entry| entry.get("VirtualSize").is_none()));
}

#[test]
fn a_name_is_removed_from_all_who_know_it() {
    let snapshot = fleet();
    let nodes = |reference: &str| {
        let image = resolve(&snapshot, reference).unwrap();
        having(&snapshot, reference, &image).iter().map(|node| node.id.0).collect::<Vec<_>>()
    };
    assert_eq!(nodes("app"), [1, 2]);
    assert_eq!(nodes("app:1"), [1]);
    assert_eq!(nodes(&ImageId::from_bytes([9; 32]).to_string()), [1, 2]);
}
