//! Events as clients see them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use wharf_engine::wire::Event;
use wharf_model::{FleetNetwork, NetworkId, Node, Snapshot, Timestamp};

use super::{
    filter,
    query::{Filters, Query},
};
use crate::Error;

/// Docker's filters, and `node`.
const FILTERS: [&str; 15] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "task",
];

/// What a client wants to be told.
#[derive(Debug)]
pub(crate) struct EventQuery {
    /// From when on; `None` for now.
    pub(crate) since: Option<Timestamp>,
    /// Until when; `None` for ever.
    pub(crate) until: Option<Timestamp>,
    filters: Filters,
}

impl EventQuery {
    /// Reads the query of `GET /events`.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`], naming the parameter.
    pub(crate) fn parse(query: &Query) -> Result<Self, Error> {
        let time = |key| query.get(key).filter(|text| !text.is_empty()).map(|text| parse_time(key, text)).transpose();
        let (since, until) = (time("since")?, time("until")?);
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            return Err(Error::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
        }
        Ok(Self { since, until, filters: query.filters(&FILTERS)? })
    }

    /// Whether an event of a node is asked for (Docker's rules in `daemon/events/filter.go`).
    pub(crate) fn matches(&self, event: &Event, node: Option<&Node>) -> bool {
        let filters = &self.filters;
        // `container=web` means events of containers that are web; it says nothing of events of other kinds, which it bars.
        let of_kind = |kind: &str| {
            filters.any(kind, |wanted| {
                let name = event.attributes.get("name").is_some_and(|name| name == wanted);
                *event.kind == *kind && (event.id.starts_with(wanted) || name)
            })
        };
        filters.any("event", |wanted| *event.action == *wanted || event.verb() == wanted)
            && filters.any("type", |wanted| *event.kind == *wanted)
            && filters.any("scope", |wanted| *event.scope == *wanted)
            && ["container", "daemon", "plugin", "volume", "network", "service", "secret", "config", "task"]
                .into_iter()
                .all(of_kind)
            && filters.any("image", |wanted| is_image(event, wanted))
            && filter::labels(filters, &event.attributes)
            && node.map_or_else(|| !filters.has("node"), |node| filter::node(filters, node))
    }
}

/// `image=busybox` means the image itself and what was made of it, with any tag.
fn is_image(event: &Event, wanted: &str) -> bool {
    let image = match &*event.kind {
        "image" => event.attributes.get("name"),
        _ => event.attributes.get("image"),
    };
    let without_tag = |name: &str| -> String {
        match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
            _ => name.to_owned(),
        }
    };
    let names = |name: &str| name == wanted || without_tag(name) == wanted;
    image.is_some_and(&names) || (*event.kind == *"image" && names(&event.id))
}

/// Seconds since 1970, with a fraction or without, or RFC 3339.
///
/// # Errors
/// [`wharf_model::Class::Invalid`], naming the parameter.
pub(crate) fn parse_time(key: &str, text: &str) -> Result<Timestamp, Error> {
    let bad =
        || Error::invalid(format!("{key}={text}: want seconds since 1970, or a time such as 2026-11-23T10:00:00Z"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(seconds) = seconds.parse::<i64>() {
        if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        return Ok(Timestamp::from_nanos(Timestamp::from_secs(seconds).as_nanos().saturating_add(nanos)));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    i64::try_from(time.as_nanosecond()).map(Timestamp::from_nanos).map_err(|_| bad())
}

/// An engine's event as clients are to see it: on a fleet network, with the id that the fleet knows it by. `None` if it is
/// about Wharf's own doings: that an engine makes or removes its part of one.
pub(crate) fn of_fleet(event: Event, node: &Node, snapshot: &Snapshot) -> Option<Event> {
    if *event.kind != *"network" {
        return Some(event);
    }
    let known = event.id.parse().ok().and_then(|id: NetworkId| node.networks.get(&id));
    let named = || event.attributes.get("name").and_then(|name| snapshot.fleet_network_named(name));
    let fleet = match known {
        Some(network) => network.fleet,
        // It was made a moment ago, and has not been read yet.
        None => named().map(|network| network.id),
    };
    let Some(fleet) = fleet else { return Some(event) };
    if matches!(&*event.action, "create" | "destroy") {
        return None;
    }
    let mut line: Map<String, Value> = serde_json::from_str(&event.raw).unwrap_or_default();
    if let Some(actor) = line.get_mut("Actor").and_then(Value::as_object_mut) {
        actor.insert("ID".to_owned(), fleet.to_string().into());
    }
    let raw = Value::Object(line).to_string().into();
    Some(Event { id: fleet.to_string().into(), raw, ..event })
}

/// What happened to a fleet network as a whole.
pub(crate) fn of_network(network: &FleetNetwork, action: &str, time: Timestamp) -> Event {
    let attributes = [("name", &*network.name), ("type", network.shown_driver())];
    let line = json!({
        "Type": "network",
        "Action": action,
        "Actor": {"ID": network.id.to_string(), "Attributes": attributes.iter().copied().collect::<BTreeMap<_, _>>()},
        "scope": "global",
        "time": time.as_secs(),
        "timeNano": time.as_nanos(),
    });
    Event {
        kind: "network".into(),
        action: action.into(),
        id: network.id.to_string().into(),
        attributes: attributes.into_iter().collect(),
        scope: "global".into(),
        time,
        raw: line.to_string().into(),
    }
}

/// An event as a line of JSON: the engine's own, with its node (in the predecessor's form) if it is of one.
pub(crate) fn render(event: &Event, node: Option<&Node>) -> Bytes {
    let mut line: Map<String, Value> = serde_json::from_str(&event.raw).unwrap_or_default();
    if let Some(node) = node {
        with_node(&mut line, node);
    }
    let mut bytes = Value::Object(line).to_string().into_bytes();
    bytes.push(b'\n');
    bytes.into()
}

fn with_node(line: &mut Map<String, Value>, node: &Node) {
    let id = node.engine.as_ref().map_or("", |engine| &engine.id);
    let (addr, ip) = (node.endpoint.address(), node.host().unwrap_or("127.0.0.1").to_owned());
    let attributes = line.get_mut("Actor").and_then(|actor| actor.get_mut("Attributes"));
    if let Some(attributes) = attributes.and_then(Value::as_object_mut) {
        for (key, value) in [("node.name", &*node.name), ("node.id", id), ("node.addr", &addr), ("node.ip", &ip)] {
            attributes.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    }
    line.insert("node".to_owned(), json!({ "Name": &*node.name, "Id": id, "Addr": addr, "Ip": ip }));
}

#[cfg(test)]
mod tests {
    use wharf_engine::wire::event;
    use wharf_model::{Endpoint, NodeId};

    use super::*;

    fn node() -> Node {
        let mut node = Node::pending(NodeId(1), "10.0.0.1:2375".parse::<Endpoint>().unwrap(), Timestamp::default());
        node.name = "node1".into();
        node
    }

    fn matches(filters: &str, line: &str) -> bool {
        let encoded = percent_encoding::utf8_percent_encode(filters, percent_encoding::NON_ALPHANUMERIC);
        let query = EventQuery::parse(&Query::parse(&format!("filters={encoded}")).unwrap()).unwrap();
        query.matches(&event(line.as_bytes()).unwrap(), Some(&node()))
    }

    const START: &str = r#"{"Type":"container","Action":"start","scope":"local","time":5,"Actor":{"ID":"abcd",
        "Attributes":{"image":"reg:5000/web:1","name":"front","backup":"please"}}}"#;

    #[test]
    fn events_are_filtered_as_docker_does() {
        for (filters, told) in [
            ("", true),
            (r#"{"label":["backup"]}"#, true),
            (r#"{"label":["backup=please"]}"#, true),
            (r#"{"label":["backup=no"]}"#, false),
            (r#"{"event":["start","die"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"container":["front"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["other"]}"#, false),
            (r#"{"network":["front"]}"#, false),
            (r#"{"image":["reg:5000/web"]}"#, true),
            (r#"{"image":["reg:5000/web:1"]}"#, true),
            (r#"{"image":["web"]}"#, false),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"node":["node1"]}"#, true),
            (r#"{"node":["node2"]}"#, false),
        ] {
            assert_eq!(matches(filters, START), told, "{filters}");
        }
    }

    #[test]
    fn an_event_tells_its_node() {
        let line: Value = serde_json::from_slice(&render(&event(START.as_bytes()).unwrap(), Some(&node()))).unwrap();
        assert_eq!(line["node"]["Name"], "node1");
        assert_eq!(line["Actor"]["Attributes"]["node.addr"], "10.0.0.1:2375");
        assert_eq!(line["Actor"]["Attributes"]["name"], "front");
    }

    #[test]
    fn times_are_read_in_all_of_dockers_forms() {
        assert_eq!(parse_time("since", "5"), Ok(Timestamp::from_secs(5)));
        assert_eq!(parse_time("since", "5.5"), Ok(Timestamp::from_nanos(5_500_000_000)));
        assert_eq!(parse_time("since", "1970-01-01T00:00:05Z"), Ok(Timestamp::from_secs(5)));
        assert!(parse_time("since", "yesterday").is_err() && parse_time("since", "5.x").is_err());
    }
}
