use std::collections::BTreeMap;

use serde::Deserialize;
use wharf_model::{AGENT_LABEL, AGENT_NAME, ContainerId, Labels, Timestamp};

use super::{Error, parse};

/// Something that happened on an engine (one line of `GET /events`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind of thing it happened to: `container`, `image`, …
    pub kind: Box<str>,
    /// What happened: `start`, `die`, `exec_create: sh`, …
    pub action: Box<str>,
    /// The thing's id, or its name where it has none.
    pub id: Box<str>,
    /// What the engine tells of the thing: labels, names.
    pub attributes: Labels,
    /// `local` or `swarm`.
    pub scope: Box<str>,
    /// When, by the engine's clock.
    pub time: Timestamp,
    /// The line as it came.
    pub raw: Box<str>,
}

/// What is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// A container.
    Container(ContainerId),
    /// All containers.
    Containers,
    /// The images.
    Images,
    /// The networks.
    Networks,
    /// The volumes.
    Volumes,
}

/// Actions on containers that change nothing that is known of them.
const FLEETING: [&str; 11] = [
    "archive-path",
    "attach",
    "commit",
    "copy",
    "detach",
    "exec_create",
    "exec_detach",
    "exec_die",
    "exec_start",
    "export",
    "top",
];

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "Type", default)]
    kind: Box<str>,
    #[serde(rename = "Action", default)]
    action: Box<str>,
    #[serde(rename = "Actor", default)]
    actor: Actor,
    #[serde(default)]
    scope: Box<str>,
    #[serde(default)]
    time: i64,
    #[serde(rename = "timeNano", default)]
    time_nano: i64,
}

#[derive(Deserialize, Default)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: Box<str>,
    #[serde(rename = "Attributes", default)]
    attributes: Option<BTreeMap<Box<str>, Box<str>>>,
}

/// Reads one line of `GET /events`.
///
/// # Errors
/// [`Error::Json`]
pub fn event(line: &[u8]) -> Result<Event, Error> {
    let wire: Wire = parse("an event", line)?;
    let time = if wire.time_nano > 0 { Timestamp::from_nanos(wire.time_nano) } else { Timestamp::from_secs(wire.time) };
    Ok(Event {
        kind: wire.kind,
        action: wire.action,
        id: wire.actor.id,
        attributes: wire.actor.attributes.iter().flatten().collect(),
        scope: wire.scope,
        time,
        raw: String::from_utf8_lossy(line).trim().into(),
    })
}

impl Event {
    /// The action without what follows its colon: `exec_create` of `exec_create: sh -c true`.
    pub fn verb(&self) -> &str {
        self.action.split_once(':').map_or(&*self.action, |(verb, _)| verb)
    }

    /// Whether it happened to Wharf's own agent on that engine, or to what it is made of.
    pub fn is_of_agent(&self) -> bool {
        let name = || self.attributes.get("name").unwrap_or(&self.id);
        match &*self.kind {
            "container" => self.attributes.contains_key(AGENT_LABEL),
            "image" => name().split(':').next() == Some(AGENT_NAME),
            "volume" => *self.id == *AGENT_NAME,
            _ => false,
        }
    }

    /// What has to be read again because of it.
    pub fn touches(&self) -> Vec<Touched> {
        let container = |id: &str| id.parse().ok().map(Touched::Container);
        match &*self.kind {
            "container" if FLEETING.contains(&self.verb()) => Vec::new(),
            "container" => container(&self.id).into_iter().collect(),
            "image" => vec![Touched::Images],
            // Who is on a network is the container's to tell: nothing else of the network changes.
            "network" if matches!(&*self.action, "connect" | "disconnect") => {
                self.attributes.get("container").and_then(container).into_iter().collect()
            }
            "network" => vec![Touched::Networks],
            // Mounting changes nothing that is listed.
            "volume" if matches!(&*self.action, "mount" | "unmount") => Vec::new(),
            "volume" => vec![Touched::Volumes],
            _ => Vec::new(),
        }
    }
}
