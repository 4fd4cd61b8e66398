use std::collections::BTreeSet;

use wharf_model::{Labels, NodeId, PublishedPort, Resources, Transport};

use crate::Expression;

/// A container that wants a place: what the choice of its node rests on.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// Its name; `None` where the engine is to choose one.
    pub name: Option<Box<str>>,
    /// Its image, as the user named it.
    pub image: Box<str>,
    /// What it reserves.
    pub resources: Resources,
    /// The ports of its host that it publishes.
    pub published: Vec<PublishedPort>,
    /// Ports that it takes on its host because it has no network of its own.
    pub host_ports: Vec<(u16, Transport)>,
    /// Its labels.
    pub labels: Labels,
    /// What is asked of the node.
    pub constraints: Vec<Expression>,
    /// Where it has to be because of what it depends on.
    pub requirements: Vec<Requirement>,
    /// Nodes that are not to be tried (again).
    pub exclude: BTreeSet<NodeId>,
}

impl Workload {
    /// All ports of its host that it takes.
    pub fn ports(&self) -> impl Iterator<Item = PublishedPort> {
        let on_host = self.host_ports.iter().map(|(port, transport)| PublishedPort::on_host(*port, *transport));
        self.published.iter().copied().chain(on_host)
    }
}

/// Something local to certain nodes that a container depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// What it is, for people: `network blue`, `volume data`, `container db`.
    pub what: String,
    /// The nodes that have it.
    pub nodes: BTreeSet<NodeId>,
    /// Their names, for people.
    pub names: Vec<Box<str>>,
}
