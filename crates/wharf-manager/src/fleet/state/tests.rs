use proptest::prelude::*;
use wharf_plan::Strategy as Choice;

use super::*;
use crate::testing::{NOW, container};

fn engine(hostname: &str) -> Arc<Engine> {
    let info = format!(r#"{{"ID":"{hostname}","Name":"{hostname}","NCPU":2,"MemTotal":1000}}"#);
    let version = br#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
    Arc::new(wharf_engine::wire::engine(info.as_bytes(), version).unwrap())
}

fn endpoint(number: u32) -> Endpoint {
    Endpoint::Tcp { host: format!("10.0.0.{number}"), port: 2375 }
}

fn discovered(numbers: std::ops::RangeInclusive<u32>) -> Event {
    Event::Discovered(numbers.map(|number| (endpoint(number), NodeId(number))).collect())
}

/// Nodes 1 to 3, contacted and empty.
fn state() -> State {
    let mut state = State::new(Policy::new(Choice::Spread), BTreeMap::new());
    state.apply(discovered(1..=3), NOW);
    for number in 1..=3 {
        state.apply(Event::Contacted(NodeId(number), engine(&format!("node{number}"))), NOW);
        state.apply(Event::Listed(NodeId(number), Box::default()), NOW);
    }
    state
}

fn place(state: &mut State, name: Option<&str>) -> Result<(Reservation, Placement), Refusal> {
    let workload = Workload { name: name.map(Into::into), ..Workload::default() };
    state.place(&Place { workload, suspects: BTreeSet::new() })
}

#[test]
fn a_node_is_pending_until_it_is_read_and_unhealthy_when_it_fails_afterwards() {
    let mut state = State::new(Policy::new(Choice::Spread), BTreeMap::new());
    state.apply(discovered(1..=1), NOW);
    let health = |state: &State| state.snapshot.node(NodeId(1)).map(|node| node.health);
    assert_eq!(health(&state), Some(Health::Pending));
    state.apply(Event::Failing(NodeId(1), "refused".into()), NOW);
    assert_eq!(health(&state), Some(Health::Pending), "what was never read is not unhealthy");
    state.apply(Event::Contacted(NodeId(1), engine("node1")), NOW);
    state.apply(Event::Listed(NodeId(1), Box::default()), NOW);
    assert_eq!(health(&state), Some(Health::Healthy));
    state.apply(Event::Changed(Box::new(container(1, 1, "web", wharf_model::Phase::Running))), NOW);
    state.apply(Event::Failing(NodeId(1), "gone".into()), NOW);
    assert_eq!(health(&state), Some(Health::Unhealthy));
    assert_eq!(state.snapshot.container_count(), 1, "its containers stay listed");
    state.apply(Event::Discovered(BTreeMap::new()), NOW);
    assert_eq!((health(&state), state.snapshot.container_count()), (None, 0));
}

#[test]
fn hosts_of_one_name_are_told_apart() {
    let mut state = state();
    state.apply(Event::Contacted(NodeId(2), engine("node1")), NOW);
    state.apply(Event::Contacted(NodeId(3), engine("node1")), NOW);
    let names: Vec<_> = state.snapshot.nodes().map(|node| node.name.to_string()).collect();
    assert_eq!(names, ["node1", "node1-2", "node1-3"]);
    state.apply(Event::Contacted(NodeId(2), engine("node1")), NOW);
    assert_eq!(&*state.snapshot.node(NodeId(2)).unwrap().name, "node1-2", "and keep their names");
}

#[test]
fn a_name_is_promised_once() {
    let mut state = state();
    let (reservation, _) = place(&mut state, Some("web")).unwrap();
    assert!(matches!(place(&mut state, Some("web")), Err(Refusal::NameTaken { by: None, .. })));
    assert!(state.claim("web".into()).is_err());
    state.apply(Event::Changed(Box::new(container(1, 1, "web", wharf_model::Phase::Created))), NOW);
    state.apply(Event::Released(reservation.id), NOW);
    assert!(matches!(place(&mut state, Some("web")), Err(Refusal::NameTaken { by: Some(_), .. })));
    state.apply(Event::Gone(NodeId(1), ContainerId::from_bytes([1; 32])), NOW);
    assert!(place(&mut state, Some("web")).is_ok());
}

#[test]
fn promises_count_as_containers_do() {
    let mut state = state();
    let mut nodes: Vec<_> = (0..30).map(|_| place(&mut state, None).unwrap().1.node).collect();
    nodes.sort_unstable();
    assert!(nodes.chunks(10).all(|chunk| chunk.iter().all(|node| *node == chunk[0])), "{nodes:?}");
}

#[test]
fn what_is_read_of_a_node_that_has_left_is_forgotten() {
    let mut state = state();
    state.apply(discovered(1..=1), NOW);
    state.apply(Event::Changed(Box::new(container(1, 2, "late", wharf_model::Phase::Running))), NOW);
    state.apply(Event::Listed(NodeId(3), Box::default()), NOW);
    assert_eq!((state.snapshot.container_count(), state.snapshot.nodes().count()), (0, 1));
}

proptest! {
    /// Events of different engines may come in any order: the state that they lead to is the same.
    #[test]
    fn any_interleaving_of_engines_gives_the_same_state(order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle()) {
        // Four steps per engine, whose order among themselves is kept.
        let mut next = [0; 3];
        let mut state = state();
        for pick in order {
            let node = pick % 3;
            let id = u8::try_from(node * 4 + 1).unwrap();
            let number = u32::try_from(node + 1).unwrap();
            let phase = |phase| Event::Changed(Box::new(container(id, number, &format!("name{node}"), phase)));
            state.apply(match next[node] {
                0 => phase(wharf_model::Phase::Created),
                1 => phase(wharf_model::Phase::Running),
                2 => Event::Failing(NodeId(number), "blip".into()),
                _ => phase(wharf_model::Phase::Exited),
            }, NOW);
            next[node] += 1;
        }
        prop_assert_eq!(state.snapshot.containers().map(|one| (one.id, one.phase)).collect::<Vec<_>>(),
            [9, 5, 1].map(|id| (ContainerId::from_bytes([id; 32]), wharf_model::Phase::Exited)));
        prop_assert!(state.snapshot.nodes().all(|node| node.health == Health::Unhealthy));
    }
}
