//! Choosing a node for what is not a container: a build, a pull, a network, a volume.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use wharf_model::{Labels, Node, PROJECT_LABEL};

use wharf_plan::{Policy, Seed, Strategy, Workload};

use super::call::{App, node};
use crate::{Error, create::Wishes, fleet::Link};

/// The healthy node that this key always leads to while it is there (rendezvous hashing): the same client's builds find
/// their cache, and the loss of a node moves only what was on it.
///
/// # Errors
/// [`wharf_model::Class::Unavailable`] if no node is healthy.
pub(crate) fn by_key(app: &App, key: &str) -> Result<(Arc<Link>, Arc<Node>), Error> {
    best(app, |_| true, |node| weight(key, node))
}

/// The node that this key leads to among those of which these wishes hold.
///
/// # Errors
/// [`wharf_model::Class::Conflict`] if they hold of none, with each node's reason.
pub(crate) fn by_wishes(app: &App, key: &str, wishes: Wishes) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let Wishes { constraints, affinities, whitelists, .. } = wishes;
    let want = Workload { constraints, affinities, whitelists, ..Workload::default() };
    let (snapshot, policy) = (app.fleet.snapshot(), Policy::new(Strategy::Spread));
    let verdicts: Vec<_> = wharf_plan::judge(&want, &snapshot, &policy, Seed(0)).collect();
    let suited = verdicts.iter().filter_map(|verdict| {
        let score = verdict.outcome.as_ref().ok()?;
        let node = snapshot.node(verdict.node)?;
        Some((node, (score.prompt, score.wishes, weight(key, node))))
    });
    match suited.max_by_key(|(_, rank)| *rank) {
        Some((node, _)) => Ok((app.link(node, "the builder")?, Arc::clone(node))),
        None => {
            let refusal = wharf_plan::place(&want, &snapshot, &policy, Seed(0)).map(drop);
            Err(Error::conflict(refusal.err().map_or_else(String::new, |refusal| refusal.to_string())))
        }
    }
}

fn weight(key: &str, node: &Node) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, &*node.name).hash(&mut hasher);
    hasher.finish()
}

/// The healthy node that a local network or volume had best be on: where its Compose project is already, else the one with
/// the fewest containers; of those nodes alone that every list in `allowed` has.
///
/// # Errors
/// [`wharf_model::Class::Unavailable`] if no node is healthy.
pub(crate) fn home(
    app: &App,
    labels: &serde_json::Map<String, serde_json::Value>,
    allowed: &[BTreeSet<Box<str>>],
) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let project = labels.get(PROJECT_LABEL).and_then(|project| project.as_str());
    let is_allowed = |node: &Node| allowed.iter().all(|names| names.contains(&*node.name));
    best(app, is_allowed, |node| {
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
    let node = node(&app.fleet.snapshot(), name)?;
    Ok((app.link(&node, "this")?, node))
}

fn best<K: Ord>(
    app: &App,
    may: impl Fn(&Node) -> bool,
    rank: impl Fn(&Node) -> K,
) -> Result<(Arc<Link>, Arc<Node>), Error> {
    let snapshot = app.fleet.snapshot();
    let answering = snapshot
        .nodes()
        .filter(|node| node.is_healthy() && may(node))
        .filter_map(|node| Some((app.fleet.link(node.id)?, node)));
    let best = answering.max_by_key(|(link, node)| (!link.is_suspect(), rank(node)));
    best.map(|(link, node)| (link, Arc::clone(node))).ok_or_else(|| {
        let (count, allowed) = (snapshot.node_count(), snapshot.nodes().filter(|node| may(node)).count());
        match count - allowed {
            0 => Error::unavailable(format!("none of the {count} nodes answers; docker info tells why")),
            _ => Error::unavailable(format!(
                "none of the {allowed} nodes that are allowed answers; docker info tells why"
            )),
        }
    })
}
