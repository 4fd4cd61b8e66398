//! Nodes, as Wharf's own clients see them.

use serde_json::{Value, json};
use wharf_model::{Node, Phase, Snapshot};

/// All nodes, by name.
pub(crate) fn list(snapshot: &Snapshot) -> Value {
    let mut nodes: Vec<_> = snapshot.nodes().collect();
    nodes.sort_by_cached_key(|node| super::info::natural(&node.name));
    nodes.into_iter().map(|node| one(node)).collect()
}

/// A node. Memory in bytes, processors as `NanoCpus`, times in RFC 3339.
pub(crate) fn one(node: &Node) -> Value {
    let (engine, load) = (node.engine.as_deref(), node.load());
    let total = engine.map(|engine| engine.total).unwrap_or_default();
    let reserved = load.reserved;
    json!({
        "Name": &*node.name,
        "Endpoint": node.endpoint.to_string(),
        "ID": engine.map_or("", |engine| &engine.id),
        "Status": node.health.name(),
        "Error": node.error.as_deref(),
        "Containers": node.containers.len(),
        "Running": load.in_phase(Phase::Running),
        "Images": node.images.len(),
        "NanoCpus": total.cpus.as_nanos(),
        "ReservedNanoCpus": reserved.cpus.as_nanos(),
        "Memory": total.memory.0,
        "ReservedMemory": reserved.memory.0,
        "Labels": &*node.labels,
        "AllLabels": node.all_labels(),
        "ServerVersion": engine.map_or("", |engine| &engine.version),
        "ApiVersion": engine.map_or_else(String::new, |engine| engine.api.to_string()),
        "Agent": node.agent.as_ref().map(|agent| json!({
            "Connected": agent.connected,
            "Version": &agent.version,
            "Address": agent.underlay.to_string(),
            "MTU": agent.underlay_mtu,
            "Problems": &agent.problems,
        })),
        "UpdatedAt": jiff::Timestamp::from_second(node.updated.as_secs()).unwrap_or_default().to_string(),
    })
}
