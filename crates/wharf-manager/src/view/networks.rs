//! Networks as clients see them.

use std::{collections::BTreeMap, sync::Arc};

use regex::Regex;
use serde_json::{Map, Value};
use wharf_model::{IdPrefix, Network, NetworkId, Node, NodeId, Snapshot};

use super::{
    filter,
    query::{Filters, Query},
};
use crate::Error;

/// Docker's filters, and `node`.
const FILTERS: [&str; 8] = ["dangling", "driver", "id", "label", "name", "node", "scope", "type"];

/// What a client wants to see.
#[derive(Debug)]
pub(crate) struct ListQuery {
    filters: Filters,
    dangling: Option<bool>,
    names: Vec<Regex>,
}

impl ListQuery {
    /// Reads the query of `GET /networks`.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`], naming the parameter.
    pub(crate) fn parse(query: &Query) -> Result<Self, Error> {
        let filters = query.filters(&FILTERS)?;
        if let Some(wrong) = filters.of("type").find(|kind| !matches!(*kind, "custom" | "builtin")) {
            return Err(Error::invalid(format!("Invalid filter: 'type'='{wrong}': want custom or builtin")));
        }
        let dangling = filters.flag("dangling")?;
        let names = filters.of("name").map(filter::pattern).collect::<Result<_, _>>()?;
        Ok(Self { filters, dangling, names })
    }
}

/// The answer to `GET /networks`: one entry per network of an engine.
///
/// # Errors
/// [`wharf_model::Class::Internal`]
pub(crate) fn list(snapshot: &Snapshot, query: &ListQuery) -> Result<Vec<u8>, Error> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for network in snapshot.nodes().flat_map(|node| node.networks.values()) {
        *names.entry(&network.name).or_default() += 1;
    }
    let filters = &query.filters;
    let mut entries = Vec::new();
    for node in snapshot.nodes().filter(|node| filter::node(filters, node)) {
        for network in node.networks.values() {
            let used = || {
                node.containers.values().any(|container| container.networks.iter().any(|on| *on.name == *network.name))
            };
            let entry: Map<String, Value> = serde_json::from_str(&network.entry).unwrap_or_default();
            let shown = (query.names.is_empty() || query.names.iter().any(|pattern| pattern.is_match(&network.name)))
                && filters.any("driver", |driver| *network.driver == *driver)
                && filters.any("id", |id| network.id.to_string().starts_with(id))
                && filters.any("scope", |scope| entry.get("Scope").and_then(Value::as_str) == Some(scope))
                && filters.any("type", |kind| (kind == "builtin") == network.is_predefined())
                && query.dangling.is_none_or(|dangling| dangling == (!network.is_predefined() && !used()))
                && filter::labels(filters, &network.labels);
            if shown {
                entries.push(named(entry, network, node, names.get(&*network.name).copied() > Some(1)));
            }
        }
    }
    serde_json::to_vec(&entries).map_err(|error| Error::internal(error.to_string()))
}

fn named(mut entry: Map<String, Value>, network: &Network, node: &Node, several: bool) -> Value {
    if several {
        entry.insert("Name".to_owned(), Value::String(format!("{}/{}", node.name, network.name)));
    }
    Value::Object(entry)
}

/// Finds the network that a user means by id, name, `node/name` or the first digits of its id.
///
/// # Errors
/// [`wharf_model::Class::NotFound`] in Docker's words; [`wharf_model::Class::Invalid`] if several nodes have one of that name.
pub(crate) fn resolve(snapshot: &Snapshot, reference: &str) -> Result<(NodeId, Arc<Network>), Error> {
    let all = || snapshot.nodes().flat_map(|node| node.networks.values().map(move |network| (node, network)));
    let found = |(node, network): (&Arc<Node>, &Arc<Network>)| (node.id, Arc::clone(network));
    if let Ok(id) = reference.parse::<NetworkId>() {
        return all().find(|(_, network)| network.id == id).map(found).ok_or_else(|| unknown(reference));
    }
    if let Some((node, name)) = reference.trim_start_matches('/').split_once('/') {
        let node = snapshot.node_named(node).map(|node| node.id);
        let named = all().find(|(owner, network)| Some(owner.id) == node && *network.name == *name);
        return named.map(found).ok_or_else(|| unknown(reference));
    }
    let named: Vec<_> = all().filter(|(_, network)| *network.name == *reference).collect();
    if let [one] = named[..] {
        return Ok(found(one));
    }
    if !named.is_empty() {
        let names: Vec<_> = named.iter().take(5).map(|(node, _)| format!("{}/{reference}", node.name)).collect();
        let more = if named.len() > names.len() { ", …" } else { "" };
        return Err(Error::invalid(format!(
            "network {reference} is on {} nodes: say which with node/name ({}{more})",
            named.len(),
            names.join(", ")
        )));
    }
    let prefix = IdPrefix::parse(reference).ok_or_else(|| unknown(reference))?;
    let mut begins = all().filter(|(_, network)| NetworkId::range(prefix).contains(&network.id));
    match (begins.next(), begins.next()) {
        (Some(one), None) => Ok(found(one)),
        (Some(_), Some(_)) => Err(Error::invalid(format!("{reference:?} is the beginning of several networks' ids"))),
        (None, _) => Err(unknown(reference)),
    }
}

/// Finds the network that a user means where the node is settled: its container is there.
///
/// # Errors
/// As [`resolve`]; [`wharf_model::Class::Conflict`] if the network is another node's.
pub(crate) fn resolve_on(snapshot: &Snapshot, reference: &str, node: &Node) -> Result<Arc<Network>, Error> {
    if let Some(network) = node.networks.values().find(|network| *network.name == *reference) {
        return Ok(Arc::clone(network));
    }
    let (owner, network) = resolve(snapshot, reference)?;
    if owner == node.id {
        return Ok(network);
    }
    let owner = snapshot.node(owner).map_or("another node", |owner| &owner.name);
    Err(Error::conflict(format!(
        "network {} is local to {owner}, and the container is on {}: it can only join networks of its own node",
        network.name, node.name
    )))
}

fn unknown(reference: &str) -> Error {
    Error::not_found(format!("network {reference} not found"))
}
