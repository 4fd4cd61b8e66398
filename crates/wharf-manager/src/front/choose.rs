//! Choosing a node for what is not a container: a build, a pull, a network, a volume.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use wharf_model::{Labels, Node, PROJECT_LABEL, Snapshot};

use super::call::App;
use crate::{Error, fleet::Link};

/// The healthy node that this key always leads to while it is there (rendezvous hashing): the same client's builds find
/// their cache, and the loss of a node moves only what was on it.
///
/// # Errors
/// [`wharf_model::Class::Unavailable`] if no node is healthy.
pub(crate) fn by_key(app: &App, key: &str) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let weight = |node: &Node| {
        let mut hasher = DefaultHasher::new();
        (key, &*node.name).hash(&mut hasher);
        hasher.finish()
    };
    best(app, |_, node| weight(node))
}

/// The healthy node that a local network or volume had best be on: where its Compose project is already, else the one with
/// the fewest containers.
///
/// # Errors
/// [`wharf_model::Class::Unavailable`] if no node is healthy.
pub(crate) fn home(
    app: &App,
    labels: &serde_json::Map<String, serde_json::Value>,
) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let project = labels.get(PROJECT_LABEL).and_then(|project| project.as_str());
    best(app, |_, node| {
        let at_home = project.is_some_and(|project| {
            let of_it = |labels: &Labels| labels.get(PROJECT_LABEL) == Some(project);
            node.networks.values().any(|network| of_it(&network.labels))
                || node.volumes.values().any(|volume| of_it(&volume.labels))
                || node.load().has_project(project)
        });
        (at_home, std::cmp::Reverse(node.containers.len()), std::cmp::Reverse(node.networks.len()))
    })
}

/// A node that the user named.
///
/// # Errors
/// [`wharf_model::Class::NotFound`], naming those there are; [`wharf_model::Class::Unavailable`].
pub(crate) fn named(app: &App, name: &str) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let snapshot = app.fleet.snapshot();
    let Some(node) = snapshot.node_named(name) else {
        let names: Vec<_> = snapshot.nodes().take(10).map(|node| &*node.name).collect();
        return Err(Error::not_found(format!("no node is called {name}: there are {}", names.join(", "))));
    };
    Ok((app.link(node, "this")?, Arc::clone(node)))
}

fn best<K: Ord>(app: &App, rank: impl Fn(&Snapshot, &Node) -> K) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let snapshot = app.fleet.snapshot();
    let answering =
        snapshot.nodes().filter(|node| node.is_healthy()).filter_map(|node| Some((app.fleet.link(node.id)?, node)));
    let best = answering.max_by_key(|(link, node)| (!link.is_suspect(), rank(&snapshot, node)));
    best.map(|(link, node)| (link, Arc::clone(node))).ok_or_else(|| {
        let count = snapshot.nodes().count();
        Error::unavailable(format!("none of the {count} nodes answers; docker info tells why"))
    })
}
