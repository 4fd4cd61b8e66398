use proptest::prelude::*;
use serde_json::{Value, json};
use wharf_model::{Health, Node, NodeId, Phase};

use super::*;
use crate::testing::{NOW, container, fleet};

fn names(snapshot: &Snapshot, query: &str, filters: &Value) -> Result<Vec<String>, Error> {
    let filters =
        percent_encoding::utf8_percent_encode(&filters.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string();
    let query = ListQuery::parse(&Query::parse(&format!("{query}&filters={filters}"))?)?;
    let listed: Vec<Value> = serde_json::from_slice(&list(snapshot, query)?).unwrap();
    Ok(listed.iter().map(|entry| entry["Names"][0].as_str().unwrap()[1..].to_owned()).collect())
}

fn three() -> Snapshot {
    fleet(vec![
        container(1, 1, "old", Phase::Exited),
        container(2, 2, "web", Phase::Running),
        container(3, 3, "new", Phase::Paused),
    ])
}

#[test]
fn the_newest_come_first_and_the_stopped_only_when_asked_for() {
    let none = json!({});
    assert_eq!(names(&three(), "", &none).unwrap(), ["new", "web"]);
    assert_eq!(names(&three(), "all=1", &none).unwrap(), ["new", "web", "old"]);
    assert_eq!(names(&three(), "limit=2", &none).unwrap(), ["new", "web"]);
    assert_eq!(names(&three(), "limit=-1&all=0", &none).unwrap(), ["new", "web"]);
    assert_eq!(names(&three(), "", &json!({"status": ["exited"]})).unwrap(), ["old"]);
    assert_eq!(names(&three(), "", &json!({"exited": {"3": true}})).unwrap(), ["old"]);
    assert_eq!(names(&three(), "", &json!({"since": ["web"]})).unwrap(), ["new"]);
    assert_eq!(names(&three(), "all=1", &json!({"before": ["web"]})).unwrap(), ["old"]);
    assert_eq!(names(&three(), "", &json!({"since": ["nobody"]})).unwrap_err().message, "No such container: nobody");
    assert!(
        names(&three(), "", &json!({"status": ["odd"]})).is_err()
            && names(&three(), "", &json!({"publish": ["x"]})).is_err()
    );
}

#[test]
fn a_status_is_made_when_it_is_asked_for() {
    let mut snapshot = three();
    let mut down = Node::clone(snapshot.node(NodeId(2)).unwrap());
    down.health = Health::Unhealthy;
    snapshot.put_node(down);
    let query = ListQuery::parse(&Query::parse("all=1").unwrap()).unwrap();
    let listed: Vec<Value> = serde_json::from_slice(&list(&snapshot, query).unwrap()).unwrap();
    let statuses: Vec<_> = listed.iter().map(|entry| entry["Status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["Up About a minute (Paused)", "Host Down", "Exited (3) About a minute ago"]);
    assert_eq!(listed[0]["Labels"], json!({"id": "3", "wharf.node": "node3"}));
}

proptest! {
    /// A filtered list is the full list without what the filter keeps out.
    #[test]
    fn a_filter_takes_away_and_changes_no_order(phases in prop::collection::vec(0..7usize, 0..20), wanted in 0..7usize) {
        let containers = phases.iter().enumerate().map(|(index, phase)| {
            let id = u8::try_from(index + 1).unwrap();
            container(id, u32::from(id) % 3 + 1, &format!("c{index}"), Phase::NAMES[*phase].0)
        });
        let snapshot = fleet(containers.collect());
        let all = names(&snapshot, "all=1", &json!({})).unwrap();
        let filtered = names(&snapshot, "", &json!({"status": [Phase::NAMES[wanted].1]})).unwrap();
        let expected: Vec<_> = all.iter().filter(|name| phases[name[1..].parse::<usize>().unwrap()] == wanted).cloned().collect();
        prop_assert_eq!(filtered, expected);
        prop_assert_eq!(all.len(), phases.len());
    }
}

fn list(snapshot: &Snapshot, query: ListQuery) -> Result<Vec<u8>, Error> {
    let mut list = List::new(Arc::new(snapshot.clone()), query, NOW)?;
    Ok(std::iter::from_fn(|| list.next_piece()).collect::<Vec<_>>().concat())
}

#[test]
fn a_list_of_many_pieces_is_one_list() {
    let many = (0..2000u16).map(|number| {
        let mut container = container(0, 1, &format!("c{number}"), Phase::Running);
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        container.id = wharf_model::ContainerId::from_bytes(id);
        container
    });
    let query = ListQuery::parse(&Query::parse("all=1").unwrap()).unwrap();
    let listed: Vec<Value> = serde_json::from_slice(&list(&fleet(many.collect()), query).unwrap()).unwrap();
    assert_eq!(listed.len(), 2000);
}
