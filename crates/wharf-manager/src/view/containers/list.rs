//! `GET /containers/json` with all of its filters.

use std::{collections::BTreeSet, sync::Arc};

use regex::Regex;
use wharf_model::{Container, Health, IdPrefix, ImageId, Phase, Snapshot, Timestamp, Transport};

use crate::{
    Error,
    view::{
        NODE_LABEL, filter, images,
        query::{Filters, Query},
        status::{HOST_DOWN, status},
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
        let phase = |text: &str| {
            Phase::parse(text).ok_or_else(|| Error::invalid(format!("Unrecognised filter value for status: {text}")))
        };
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

    fn matches(&self, container: &Container) -> bool {
        let filters = &self.filters;
        let name =
            |pattern: &Regex| pattern.is_match(&container.name) || pattern.is_match(&format!("/{}", container.name));
        let exited = container.phase == Phase::Exited && self.exited.contains(&container.exit_code);
        (self.names.is_empty() || self.names.iter().any(name))
            && (self.exited.is_empty() || exited)
            && labels(filters, container)
            && filters.any("health", |wanted| container.health.name() == wanted)
            && filters.any("id", |wanted| {
                IdPrefix::parse(wanted).is_some_and(|prefix| wharf_model::ContainerId::range(prefix).contains(&container.id))
            })
            && filters.any("network", |wanted| {
                let id = |network: &wharf_model::Attachment| network.id.is_some_and(|id| id.to_string().starts_with(wanted));
                container.networks.iter().any(|network| *network.name == *wanted || id(network))
            })
            && filters.any("volume", |wanted| {
                let mount = |mount: &wharf_model::MountPoint| {
                    mount.volume.as_deref() == Some(wanted) || *mount.source == *wanted || *mount.destination == *wanted
                };
                container.mounts.iter().any(mount)
            })
            // There are no tasks and no isolation here: Docker's containers on Linux say so, too.
            && filters.any("is-task", |wanted| matches!(wanted, "0" | "false" | "False"))
            && filters.any("isolation", |wanted| matches!(wanted, "" | "default"))
            && (self.published.is_empty() || self.published.iter().any(|ports| ports.published(container)))
            && (self.exposed.is_empty() || self.exposed.iter().any(|ports| ports.exposed(container)))
    }
}

/// The answer to `GET /containers/json` at `now`, the newest first.
///
/// # Errors
/// [`wharf_model::Class::NotFound`] if `before` or `since` name no container.
pub(crate) fn list(snapshot: &Snapshot, query: &ListQuery, now: Timestamp) -> Result<Vec<u8>, Error> {
    let bound = |key: &str| -> Result<Option<Arc<Container>>, Error> {
        query.filters.of(key).next().map(|reference| crate::front::container(snapshot, reference)).transpose()
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let ancestors = ancestors(snapshot, &query.filters);
    let mut body = vec![b'['];
    let mut count = 0;
    for container in snapshot.containers() {
        if query.limit.is_some_and(|limit| count >= limit) {
            break;
        }
        if since.as_ref().is_some_and(|since| container.created <= since.created) {
            // From here on all are older.
            break;
        }
        if before.as_ref().is_some_and(|before| container.created >= before.created) {
            continue;
        }
        let Some(node) = snapshot.node(container.node) else { continue };
        let down = node.health == Health::Unhealthy;
        let shown = query.wants(container)
            && query.matches(container)
            && filter::node(&query.filters, node)
            && node_label(&query.filters, &node.name)
            && ancestors.as_ref().is_none_or(|ancestors| is_descendant(ancestors, container));
        if !shown {
            continue;
        }
        if count > 0 {
            body.push(b',');
        }
        count += 1;
        body.extend_from_slice(container.entry.before_status.as_bytes());
        match down {
            true => body.extend_from_slice(HOST_DOWN.as_bytes()),
            false => body.extend_from_slice(status(container, now).as_bytes()),
        }
        body.extend_from_slice(container.entry.after_status.as_bytes());
    }
    body.push(b']');
    Ok(body)
}

/// Whether the container has the labels that are asked for. The one that tells its node is the list's own, and is looked
/// at apart.
fn labels(filters: &Filters, container: &Container) -> bool {
    filters.of("label").all(|wanted| match wanted.split_once('=') {
        Some((NODE_LABEL, _)) => true,
        Some((key, value)) => container.labels.get(key).is_some_and(|found| **found == *value),
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
