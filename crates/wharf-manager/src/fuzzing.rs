//! What the fuzz targets call: how this crate reads what clients send, each with what has to hold whatever is sent.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};
use wharf_model::{Class, Phase, Snapshot};

use crate::{
    API_NEWEST, Error,
    create::CreateRequest,
    front,
    networks::Wiring,
    testing::{NOW, container, fleet, image, node},
    view::{
        self,
        query::{Filters, Query},
    },
};

static FLEET: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let phases = [Phase::Running, Phase::Exited, Phase::Created];
    let containers =
        phases.into_iter().zip(1..).map(|(phase, id)| container(id, u32::from(id), &format!("c{id}"), phase));
    let mut fleet = fleet(containers.collect());
    fleet.put_node(node(4, vec![image(1, &["busybox:latest", "a.example:5000/b:1"], 1), image(2, &[], 2)]));
    Arc::new(fleet)
});

/// `GET /v1.41/containers/c1/json?size=1`: the row it belongs to is found or not, and a name that is taken out of the path
/// can be put back.
pub fn request_line(head: &[u8]) {
    let (given, put_in) = front::rewritten(head);
    assert_eq!(given.len(), head.len() + put_in.len(), "a head is given on whole");
    let at = given.iter().zip(head).take_while(|(one, other)| one == other).count();
    assert!(given[at..].ends_with(&head[at..]), "what was put in is all that is new");
    let Some(line) = head.split(|byte| *byte == b'\r').next().and_then(|line| str::from_utf8(line).ok()) else {
        return;
    };
    let Some((method, target)) = line.split_once(' ') else { return };
    let Ok(method) = method.parse() else { return };
    let Ok(target) = target.parse::<http::Uri>() else { return };
    if let Some(captured) = front::captured(&method, target.path()) {
        assert!(captured.is_empty() || !captured.starts_with('/'), "a name has no slash in front: {captured}");
    }
    let Some(query) = target.query() else { return };
    let Ok(query) = Query::parse(query) else { return };
    assert_eq!(Query::parse(&query.text()).map(|again| again.text()), Ok(query.text()), "a query reads back");
}

/// The query of a list: it is answered with JSON, or refused as the client's fault.
pub fn lists(query: &str) {
    let Ok(query) = Query::parse(query) else { return };
    let snapshot = &*FLEET;
    let containers = || {
        let query = view::containers::ListQuery::parse(&query)?;
        let mut list = view::containers::List::new(Arc::clone(snapshot), query, NOW)?;
        Ok(std::iter::from_fn(|| list.next_piece()).flatten().collect())
    };
    check(containers());
    check(view::images::ListQuery::parse(&query).and_then(|query| view::images::list(snapshot, &query, API_NEWEST)));
    check(view::networks::ListQuery::parse(&query).and_then(|query| view::networks::list(snapshot, &query)));
    check(view::volumes::ListQuery::parse(&query).and_then(|query| view::volumes::list(snapshot, &query)));
    check(view::events::EventQuery::parse(&query).map(|_| b"[]".to_vec()));
    if let Ok(filters) = Filters::parse(query.get("filters").unwrap_or("")) {
        assert_eq!(Filters::parse(&filters.to_json()), Ok(filters), "filters read back");
    }
}

/// A create's body: if it is taken, each engine gets an object with all that the client sent that Wharf does not know.
pub fn create(body: &[u8]) {
    let Ok(request) = CreateRequest::parse(body, Some("name"), None, &FLEET, None) else { return };
    let sent: Map<String, Value> = serde_json::from_slice(body).expect("it has been read");
    for node in FLEET.nodes() {
        let passed = request.for_engine(node, &[("label", "value".to_owned())], &Wiring::default(), &[]);
        let passed: Map<String, Value> = serde_json::from_str(&passed.body).expect("an engine gets JSON");
        for (key, value) in sent.iter().filter(|(key, _)| key.starts_with('X')) {
            assert_eq!(passed.get(key), Some(value), "what is unknown survives");
        }
    }
    let placed = FLEET.nodes().map(|node| node.id);
    assert!(placed.count() == 4 && !request.image.is_empty(), "a request names an image");
}

fn check(answer: Result<Vec<u8>, Error>) {
    match answer {
        Ok(json) => {
            let json: Value = serde_json::from_slice(&json).expect("an answer is JSON");
            assert!(json.is_array() || json.is_object(), "an answer is a list, or an object with one");
        }
        Err(error) => assert!(matches!(error.class, Class::Invalid | Class::NotFound), "the client's fault: {error}"),
    }
}
