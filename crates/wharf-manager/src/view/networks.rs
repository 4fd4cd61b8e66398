//! Networks as clients see them.

pub(crate) mod fleet;

use std::{collections::BTreeMap, sync::Arc};

use regex::Regex;
use serde_json::{Map, Value};
use wharf_model::{FleetNetwork, IdPrefix, Labels, Network, NetworkId, Node, NodeId, Snapshot};

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

/// What a user means by a network.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// One that spans the fleet.
    Fleet(Arc<FleetNetwork>),
    /// One of a node's engine alone.
    OfNode(NodeId, Arc<Network>),
}

/// The answer to `GET /networks`: the fleet's networks, and one entry per network of an engine.
///
/// # Errors
/// [`wharf_model::Class::Internal`]
pub(crate) fn list(snapshot: &Snapshot, query: &ListQuery) -> Result<Vec<u8>, Error> {
    let mut entries = Vec::new();
    for network in snapshot.fleet_networks() {
        let on_node = |node: &NodeId| snapshot.node(*node).is_some_and(|node| filter::node(&query.filters, node));
        let by_node = !query.filters.has("node") || network.nodes().iter().any(on_node);
        let used = || snapshot.members(network).next().is_some();
        let labels: Labels = network.labels.iter().collect();
        if by_node && query.shows((&network.name, network.shown_driver(), network.id, "global"), &labels, false, used) {
            entries.push(fleet::entry(network));
        }
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, network) in of_nodes(snapshot) {
        *names.entry(&network.name).or_default() += 1;
    }
    for (node, network) in of_nodes(snapshot).filter(|(node, _)| filter::node(&query.filters, node)) {
        let used =
            || node.containers.values().any(|container| container.networks.iter().any(|on| *on.name == *network.name));
        let entry: Map<String, Value> = serde_json::from_str(&network.entry).unwrap_or_default();
        let scope = entry.get("Scope").and_then(Value::as_str).unwrap_or_default().to_owned();
        let facts = (&*network.name, &*network.driver, network.id, &*scope);
        if query.shows(facts, &network.labels, network.is_predefined(), used) {
            entries.push(named(entry, network, node, names.get(&*network.name).copied() > Some(1)));
        }
    }
    serde_json::to_vec(&entries).map_err(|error| Error::internal(error.to_string()))
}

impl ListQuery {
    /// Whether a network of this name, driver, id and scope is asked for.
    fn shows(
        &self,
        (name, driver, id, scope): (&str, &str, NetworkId, &str),
        labels: &Labels,
        predefined: bool,
        used: impl Fn() -> bool,
    ) -> bool {
        let filters = &self.filters;
        (self.names.is_empty() || self.names.iter().any(|pattern| pattern.is_match(name)))
            && filters.any("driver", |wanted| wanted == driver)
            && filters.any("id", |wanted| id.to_string().starts_with(wanted))
            && filters.any("scope", |wanted| wanted == scope)
            && filters.any("type", |kind| (kind == "builtin") == predefined)
            && self.dangling.is_none_or(|dangling| dangling == (!predefined && !used()))
            && filter::labels(filters, labels)
    }
}

/// The networks of single nodes: not their parts of fleet networks.
fn of_nodes(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Node>, &Arc<Network>)> {
    let networks = snapshot.nodes().flat_map(|node| node.networks.values().map(move |network| (node, network)));
    networks.filter(|(_, network)| network.fleet.is_none())
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
pub(crate) fn resolve(snapshot: &Snapshot, reference: &str) -> Result<Found, Error> {
    let all = || of_nodes(snapshot);
    let found = |(node, network): (&Arc<Node>, &Arc<Network>)| Found::OfNode(node.id, Arc::clone(network));
    if let Ok(id) = reference.parse::<NetworkId>() {
        if let Some(network) = snapshot.fleet_network(id) {
            return Ok(Found::Fleet(Arc::clone(network)));
        }
        return all().find(|(_, network)| network.id == id).map(found).ok_or_else(|| unknown(reference));
    }
    if let Some((node, name)) = reference.trim_start_matches('/').split_once('/') {
        let node = snapshot.node_named(node).map(|node| node.id);
        let named = all().find(|(owner, network)| Some(owner.id) == node && *network.name == *name);
        return named.map(found).ok_or_else(|| unknown(reference));
    }
    if let Some(network) = snapshot.fleet_network_named(reference) {
        return Ok(Found::Fleet(Arc::clone(network)));
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
    let of_fleet = snapshot.fleet_networks_with_prefix(prefix).map(|network| Found::Fleet(Arc::clone(network)));
    let of_nodes = all().filter(|(_, network)| NetworkId::range(prefix).contains(&network.id)).map(found);
    let mut begins = of_fleet.chain(of_nodes);
    match (begins.next(), begins.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Error::invalid(format!("{reference:?} is the beginning of several networks' ids"))),
        (None, _) => Err(unknown(reference)),
    }
}

/// Finds the network that a user means where the node is settled: its container is there.
///
/// # Errors
/// As [`resolve`]; [`wharf_model::Class::Conflict`] if the network is another node's.
pub(crate) fn resolve_on(snapshot: &Snapshot, reference: &str, node: &Node) -> Result<Found, Error> {
    let own = node.networks.values().find(|network| network.fleet.is_none() && *network.name == *reference);
    if let Some(network) = own {
        return Ok(Found::OfNode(node.id, Arc::clone(network)));
    }
    let (owner, network) = match resolve(snapshot, reference)? {
        Found::OfNode(owner, network) if owner != node.id => (owner, network),
        found => return Ok(found),
    };
    let owner = snapshot.node(owner).map_or("another node", |owner| &owner.name);
    Err(Error::conflict(format!(
        "network {} is local to {owner}, and the container is on {}: it can only join networks of its own node",
        network.name, node.name
    )))
}

fn unknown(reference: &str) -> Error {
    Error::not_found(format!("network {reference} not found"))
}
