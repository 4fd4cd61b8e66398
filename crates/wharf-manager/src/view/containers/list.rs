//! `GET /containers/json` with all of its filters.

use std::{collections::BTreeSet, io::Write, sync::Arc};

use regex::Regex;
use wharf_model::{
    Container, ContainerId, ENTRY_END, Health, IdPrefix, ImageId, Node, Phase, Snapshot, Timestamp, Transport,
};

use crate::{
    Error,
    view::{
        NODE_LABEL, filter, images,
        query::{Filters, Query},
        status::{HOST_DOWN, Status},
    },
};

/// Docker's filters, and `node`.
const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "node",
    "publish",
    "since",
    "status",
    "volume",
];

/// What a client wants to see.
#[derive(Debug)]
pub(crate) struct ListQuery {
    all: bool,
    limit: Option<usize>,
    /// With sizes, which only the engines know.
    pub(crate) size: bool,
    filters: Filters,
    names: Vec<Regex>,
    phases: BTreeSet<Phase>,
    exited: BTreeSet<i64>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
    tasks: bool,
}

/// `80`, `80/udp`, `8000-8010/tcp`
#[derive(Debug)]
struct Ports {
    first: u16,
    last: u16,
    transport: Transport,
}

impl ListQuery {
    /// Reads the query of `GET /containers/json`.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`], naming the parameter.
    pub(crate) fn parse(query: &Query) -> Result<Self, Error> {
        let filters = query.filters(&FILTERS)?;
        let phase =
            |text: &str| Phase::parse(text).ok_or_else(|| Error::invalid(format!("Invalid filter 'status={text}'")));
        let exit = |text: &str| {
            text.parse().map_err(|_| Error::invalid(format!("Invalid filter 'exited={text}': want an exit code")))
        };
        let ports = |key| filters.of(key).map(Ports::parse).collect::<Result<_, _>>();
        if let Some(wrong) =
            filters.of("health").find(|text| !matches!(*text, "none" | "starting" | "healthy" | "unhealthy"))
        {
            return Err(Error::invalid(format!("Unrecognised filter value for health: {wrong}")));
        }
        let limit = query.number("limit")?.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
        Ok(Self {
            all: query.flag("all"),
            limit,
            size: query.flag("size"),
            names: filters.of("name").map(filter::pattern).collect::<Result<_, _>>()?,
            phases: filters.of("status").map(phase).collect::<Result<_, _>>()?,
            exited: filters.of("exited").map(exit).collect::<Result<_, _>>()?,
            published: ports("publish")?,
            exposed: ports("expose")?,
            tasks: filters.flag("is-task")? == Some(true),
            filters,
        })
    }

    /// What is asked for beside what runs: everything, the last few, or certain phases.
    fn wants(&self, container: &Container) -> bool {
        if !self.phases.is_empty() {
            return self.phases.contains(&container.phase);
        }
        if !self.exited.is_empty() {
            return true;
        }
        self.all || self.limit.is_some() || container.phase.is_up()
    }

    fn matches(&self, container: &Container, snapshot: &Snapshot) -> bool {
        let filters = &self.filters;
        let name =
            |pattern: &Regex| pattern.is_match(&container.name) || pattern.is_match(&format!("/{}", container.name));
        let exited = container.phase == Phase::Exited && self.exited.contains(&container.exit_code);
        (self.names.is_empty() || self.names.iter().any(name))
            && (self.exited.is_empty() || exited)
            && labels(filters, container)
            && filters.any("health", |wanted| container.health.name() == wanted)
            && filters.any("id", |wanted| {
                IdPrefix::parse(wanted).is_some_and(|prefix| ContainerId::range(prefix).contains(&container.id))
            })
            && filters.any("network", |wanted| {
                let id = |network: &wharf_model::Attachment| {
                    let fleet = snapshot.node(container.node).and_then(|node| node.fleet_network(network));
                    fleet.or(network.id).is_some_and(|id| id.to_string().starts_with(wanted))
                };
                container.networks.iter().any(|network| *network.name == *wanted || id(network))
            })
            && filters.any("volume", |wanted| {
                let mount = |mount: &wharf_model::MountPoint| {
                    mount.volume.as_deref() == Some(wanted) || *mount.source == *wanted || *mount.destination == *wanted
                };
                container.mounts.iter().any(mount)
            })
            // There are no tasks and no isolation here: Docker's containers on Linux say so, too.
            && !self.tasks
            && filters.any("isolation", |wanted| matches!(wanted, "" | "default"))
            && (self.published.is_empty() || self.published.iter().any(|ports| ports.published(container)))
            && (self.exposed.is_empty() || self.exposed.iter().any(|ports| ports.exposed(container)))
    }
}

/// The answer to `GET /containers/json` at a moment, the newest first. It is made piece by piece: of fifty thousand containers
/// it is twenty megabytes.
#[derive(Debug)]
pub(crate) struct List {
    snapshot: Arc<Snapshot>,
    query: ListQuery,
    now: Timestamp,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    ancestors: Option<(BTreeSet<ImageId>, BTreeSet<String>)>,
    from: From,
    listed: usize,
    ended: bool,
}

/// Where the containers of a list come from.
#[derive(Debug)]
enum From {
    /// All that there are, after this one.
    All(Option<(Timestamp, ContainerId)>),
    /// Those that may have the labels that are asked for.
    These(std::vec::IntoIter<Arc<Container>>),
}

/// A piece is about so large.
const PIECE: usize = 128 << 10;

/// Containers that are fetched from memory together. They lie scattered in it: to wait for one after the other took more than half
/// of a list's time.
const AHEAD: usize = 64;

/// How much of its memory a processor fetches at once, in bytes.
const CACHE_LINE: usize = 64;

impl List {
    /// Begins a list.
    ///
    /// # Errors
    /// [`wharf_model::Class::NotFound`] if `before` or `since` name no container.
    pub(crate) fn new(snapshot: Arc<Snapshot>, query: ListQuery, now: Timestamp) -> Result<Self, Error> {
        let bound = |key: &str| -> Result<Option<Timestamp>, Error> {
            let named = query.filters.of(key).next();
            let found = named.map(|reference| crate::front::container(&snapshot, reference)).transpose()?;
            Ok(found.map(|container| container.created))
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let ancestors = ancestors(&snapshot, &query.filters);
        let from = candidates(&snapshot, &query.filters).map_or(From::All(None), |some| From::These(some.into_iter()));
        Ok(Self { snapshot, query, now, before, since, ancestors, from, listed: 0, ended: false })
    }

    /// The next piece; `None` after the last.
    pub(crate) fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut piece = Vec::with_capacity(if self.listed == 0 { 4096 } else { PIECE + PIECE / 2 });
        if self.listed == 0 {
            piece.push(b'[');
        }
        let snapshot = Arc::clone(&self.snapshot);
        let done = match std::mem::replace(&mut self.from, From::All(None)) {
            From::All(after) => {
                let mut last = None;
                let done = self.fill(&mut piece, snapshot.containers_after(after).inspect(|one| last = Some(*one)));
                self.from = From::All(last.map(|last| (last.created, last.id)));
                done
            }
            From::These(mut these) => {
                let done = self.fill(&mut piece, these.by_ref());
                self.from = From::These(these);
                done
            }
        };
        if done {
            piece.push(b']');
            self.ended = true;
        }
        Some(piece)
    }

    /// Adds entries until the piece is large enough; whether the list is at its end.
    fn fill<C: AsRef<Container>>(&mut self, piece: &mut Vec<u8>, mut containers: impl Iterator<Item = C>) -> bool {
        let snapshot = Arc::clone(&self.snapshot);
        let mut ahead = Vec::new();
        while piece.len() < PIECE {
            let wanted = self.query.limit.map_or(AHEAD, |limit| AHEAD.min(limit - self.listed));
            ahead.clear();
            ahead.extend(containers.by_ref().take(wanted));
            if ahead.is_empty() {
                return true;
            }
            fetch(&ahead);
            let (mut next, mut is_last) = (Vec::new(), false);
            for container in ahead.iter().map(AsRef::as_ref) {
                // From a container of `since` on all are older.
                is_last = self.since.is_some_and(|since| container.created <= since);
                if is_last {
                    break;
                }
                let node = snapshot.node(container.node).filter(|node| self.shows(container, node));
                next.extend(node.map(|node| (container, node)));
            }
            fetch_entries(&next);
            next.into_iter().for_each(|(container, node)| self.add(piece, container, node));
            if is_last {
                return true;
            }
        }
        false
    }

    fn add(&mut self, piece: &mut Vec<u8>, container: &Container, node: &Node) {
        if self.listed > 0 {
            piece.push(b',');
        }
        self.listed += 1;
        piece.extend_from_slice(container.entry.as_bytes());
        match node.health == Health::Unhealthy {
            true => piece.extend_from_slice(HOST_DOWN.as_bytes()),
            // Writing to memory does not fail.
            false => drop(write!(piece, "{}", Status::new(container, self.now))),
        }
        piece.extend_from_slice(ENTRY_END.as_bytes());
    }

    fn shows(&self, container: &Container, node: &Node) -> bool {
        self.query.wants(container)
            && self.before.is_none_or(|before| container.created < before)
            && self.query.matches(container, &self.snapshot)
            && filter::node(&self.query.filters, node)
            && node_label(&self.query.filters, &node.name)
            && self.ancestors.as_ref().is_none_or(|ancestors| is_descendant(ancestors, container))
    }
}

/// Has the processor fetch what is asked of every container, by a look at each: looks do not wait for each other.
fn fetch<C: AsRef<Container>>(containers: &[C]) {
    for one in containers.iter().map(AsRef::as_ref) {
        std::hint::black_box((one.node, one.created, one.phase, one.started, one.listed.is_some(), one.entry.len()));
    }
}

/// The same for what will be written of them.
fn fetch_entries<N>(next: &[(&Container, N)]) {
    let lines = next.iter().flat_map(|(one, _)| one.entry.as_bytes().iter().step_by(CACHE_LINE));
    std::hint::black_box(lines.fold(0, |all, byte| all ^ byte));
}

/// Where labels are asked for: the containers of those nodes that may have some, the newest first. `None`: look at all.
fn candidates(snapshot: &Snapshot, filters: &Filters) -> Option<Vec<Arc<Container>>> {
    let wanted: Vec<_> = filters
        .of("label")
        .map(|wanted| wanted.split_once('=').map_or((wanted, None), |(key, value)| (key, Some(value))))
        .filter(|(key, _)| *key != NODE_LABEL)
        .collect();
    if wanted.is_empty() {
        return None;
    }
    let may = |node: &&Arc<Node>| wanted.iter().all(|(key, value)| node.load().may_have_label(key, *value));
    let has = |container: &&Arc<Container>| labels(filters, container);
    let mut found: Vec<_> =
        snapshot.nodes().filter(may).flat_map(|node| node.containers.values().filter(has)).cloned().collect();
    found.sort_unstable_by_key(|container| (std::cmp::Reverse(container.created), container.id));
    Some(found)
}

/// Whether the container has the labels that are asked for. The one that tells its node is the list's own, and is looked
/// at apart.
fn labels(filters: &Filters, container: &Container) -> bool {
    filters.of("label").all(|wanted| match wanted.split_once('=') {
        Some((NODE_LABEL, _)) => true,
        Some((key, value)) => container.labels.get(key) == Some(value),
        None => wanted == NODE_LABEL || container.labels.contains_key(wanted),
    })
}

/// Whether the label that tells the node is what is asked for.
fn node_label(filters: &Filters, node: &str) -> bool {
    filters.of("label").all(|wanted| match wanted.split_once('=') {
        Some((NODE_LABEL, value)) => value == node,
        _ => true,
    })
}

/// The images that `ancestor` names; `None` if it names none. Images that nobody knows may still be what a container was
/// created with, by name.
fn ancestors(snapshot: &Snapshot, filters: &Filters) -> Option<(BTreeSet<ImageId>, BTreeSet<String>)> {
    filters.has("ancestor").then(|| {
        let ids = filters.of("ancestor").flat_map(|name| images::meant(snapshot, name)).collect();
        (ids, filters.of("ancestor").map(str::to_owned).collect())
    })
}

fn is_descendant((ids, names): &(BTreeSet<ImageId>, BTreeSet<String>), container: &Container) -> bool {
    container.image_id.is_some_and(|id| ids.contains(&id)) || names.contains(&*container.image)
}

// === impl Ports ===

impl Ports {
    fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("Invalid port filter {text:?}: want PORT, FIRST-LAST or PORT/udp"));
        let (range, transport) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().map_err(|_| bad());
        let ports = Self {
            first: number(first)?,
            last: number(last)?,
            transport: Transport::parse(transport).ok_or_else(bad)?,
        };
        if ports.first > ports.last { Err(bad()) } else { Ok(ports) }
    }

    fn holds(&self, port: u16, transport: Transport) -> bool {
        transport == self.transport && (self.first..=self.last).contains(&port)
    }

    /// Docker's `publish` means either side of a mapping.
    fn published(&self, container: &Container) -> bool {
        container.published.iter().any(|port| {
            let host = port.host.is_some_and(|host| self.holds(host, port.transport));
            host || self.holds(port.container, port.transport)
        })
    }

    fn exposed(&self, container: &Container) -> bool {
        let published = container.published.iter().any(|port| self.holds(port.container, port.transport));
        published || container.exposed.iter().any(|(port, transport)| self.holds(*port, *transport))
    }
}

#[cfg(test)]
mod tests;
