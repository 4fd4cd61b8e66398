//! Volumes as clients see them.

use std::{collections::BTreeMap, sync::Arc};

use regex::Regex;
use serde_json::{Map, Value, json};
use wharf_model::{Node, NodeId, Snapshot, Volume};

use super::{
    filter,
    query::{Filters, Query},
};
use crate::Error;

/// Docker's filters, and `node`.
const FILTERS: [&str; 5] = ["dangling", "driver", "label", "name", "node"];

/// What a client wants to see.
#[derive(Debug)]
pub(crate) struct ListQuery {
    filters: Filters,
    dangling: Option<bool>,
    names: Vec<Regex>,
}

impl ListQuery {
    /// Reads the query of `GET /volumes`.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`], naming the parameter.
    pub(crate) fn parse(query: &Query) -> Result<Self, Error> {
        let filters = query.filters(&FILTERS)?;
        let dangling = filters.flag("dangling")?;
        let names = filters.of("name").map(filter::pattern).collect::<Result<_, _>>()?;
        Ok(Self { filters, dangling, names })
    }
}

/// The answer to `GET /volumes`.
///
/// # Errors
/// [`wharf_model::Class::Internal`]
pub(crate) fn list(snapshot: &Snapshot, query: &ListQuery) -> Result<Vec<u8>, Error> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for volume in snapshot.nodes().flat_map(|node| node.volumes.values()) {
        *names.entry(&volume.name).or_default() += 1;
    }
    let mut entries = Vec::new();
    for node in snapshot.nodes().filter(|node| filter::node(&query.filters, node)) {
        for volume in node.volumes.values() {
            let used = || node.containers.values().any(|container| uses(container, volume));
            let shown = (query.names.is_empty() || query.names.iter().any(|pattern| pattern.is_match(&volume.name)))
                && query.filters.any("driver", |driver| *volume.driver == *driver)
                && query.dangling.is_none_or(|dangling| dangling != used())
                && filter::labels(&query.filters, &volume.labels);
            if shown {
                let mut entry: Map<String, Value> = serde_json::from_str(&volume.entry).unwrap_or_default();
                if names.get(&*volume.name).copied() > Some(1) {
                    entry.insert("Name".to_owned(), Value::String(format!("{}/{}", node.name, volume.name)));
                }
                entries.push(Value::Object(entry));
            }
        }
    }
    let body = json!({ "Volumes": entries, "Warnings": null });
    serde_json::to_vec(&body).map_err(|error| Error::internal(error.to_string()))
}

fn uses(container: &wharf_model::Container, volume: &Volume) -> bool {
    container.mounts.iter().any(|mount| mount.volume.as_deref() == Some(&*volume.name))
}

/// Finds the volume that a user means by its name or `node/name`.
///
/// # Errors
/// [`wharf_model::Class::NotFound`] in Docker's words; [`wharf_model::Class::Invalid`] if several nodes have one of that name.
pub(crate) fn resolve(snapshot: &Snapshot, reference: &str) -> Result<(NodeId, Arc<Volume>), Error> {
    let unknown = || Error::not_found(format!("get {reference}: no such volume"));
    let on = |node: &Arc<Node>, name: &str| node.volumes.get(name).map(|volume| (node.id, Arc::clone(volume)));
    if let Some((node, name)) = reference.trim_start_matches('/').split_once('/') {
        return snapshot.node_named(node).and_then(|node| on(node, name)).ok_or_else(unknown);
    }
    let mut found: Vec<_> = snapshot.nodes().filter_map(|node| on(node, reference)).collect();
    match found.len() {
        0 => Err(unknown()),
        1 => Ok(found.remove(0)),
        count => {
            let named = found.iter().take(5).filter_map(|(node, _)| snapshot.node(*node));
            let names: Vec<_> = named.map(|node| format!("{}/{reference}", node.name)).collect();
            Err(Error::invalid(format!(
                "volume {reference} is on {count} nodes: say which with node/name ({}{})",
                names.join(", "),
                if count > names.len() { ", …" } else { "" }
            )))
        }
    }
}
