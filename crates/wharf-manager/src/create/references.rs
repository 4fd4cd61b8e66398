//! Names in a create request that mean something of the fleet: containers, networks, volumes. Each ties the container to the
//! nodes that have it, and is rewritten to what those nodes' engines call it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use wharf_model::{NamespaceMode, Node, Snapshot};
use wharf_plan::Requirement;

use crate::{
    Error,
    networks::{Join, asked_address},
    view::{self, networks::Found},
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Where the container has to be.
    pub(super) requirements: Vec<Requirement>,
    /// Paths of the host that are mounted.
    pub(super) binds: Vec<String>,
    /// Fleet networks that it is to be on; that of its network mode comes first.
    pub(super) joins: Vec<Join>,
    /// What it calls other containers, where its network spans the fleet: name and alias.
    pub(super) links: Vec<(String, String)>,
}

/// Network modes that every engine has.
const EVERYWHERE: [&str; 6] = ["", "default", "bridge", "host", "none", "nat"];

/// Finds and rewrites the references. `default` is the fleet network of containers that name none, if there is one.
///
/// # Errors
/// [`wharf_model::Class::NotFound`] for what is not there; [`wharf_model::Class::Invalid`] for what may mean several things.
pub(super) fn resolve(
    body: &mut Map<String, Value>,
    snapshot: &Snapshot,
    default: Option<&str>,
) -> Result<References, Error> {
    let mut found = References::default();
    if let Some(default) = default {
        name_default_network(body, default);
    }
    if let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) {
        for key in ["NetworkMode", "IpcMode", "PidMode"] {
            let Some(Value::String(mode)) = host.get_mut(key) else { continue };
            if let NamespaceMode::Container(reference) = NamespaceMode::parse(mode) {
                let container = found.container(snapshot, reference)?;
                *mode = format!("container:{container}");
            } else if key == "NetworkMode" {
                *mode = found.network(snapshot, mode)?;
            }
        }
        for volumes in host.get_mut("VolumesFrom").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::String(text) = volumes else { continue };
            let (reference, rights) =
                text.split_once(':').map_or((text.as_str(), None), |(name, rights)| (name, Some(rights)));
            let id = found.container(snapshot, reference)?;
            *text = rights.map_or_else(|| id.clone(), |rights| format!("{id}:{rights}"));
        }
        for link in host.get_mut("Links").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::String(text) = link else { continue };
            let (reference, alias) = text.rsplit_once(':').unwrap_or((text, text));
            let alias = alias.rsplit('/').next().unwrap_or(alias).to_owned();
            let name = found.linked(snapshot, reference)?;
            if !found.joins.is_empty() {
                found.links.push((name.clone(), alias.clone()));
            }
            *text = format!("{name}:{alias}");
        }
        for bind in host.get_mut("Binds").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::String(text) = bind else { continue };
            let Some((source, rest)) = text.split_once(':') else { continue };
            let source = found.source(snapshot, source)?;
            *text = format!("{source}:{rest}");
        }
        for mount in host.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
            let kind = mount.get("Type").and_then(Value::as_str).unwrap_or("volume").to_owned();
            let Some(Value::String(source)) = mount.get_mut("Source") else { continue };
            match kind.as_str() {
                "bind" => found.binds.push(source.clone()),
                "volume" if !source.is_empty() => *source = found.source(snapshot, source)?,
                _ => {}
            }
        }
    }
    let endpoints = body.get_mut("NetworkingConfig").and_then(|config| config.get_mut("EndpointsConfig"));
    if let Some(endpoints) = endpoints.and_then(Value::as_object_mut) {
        let keys: Vec<_> = endpoints.keys().cloned().collect();
        for key in keys {
            let name = found.network(snapshot, &key)?;
            if let Some(join) = found.joins.iter_mut().find(|join| *join.name == *name) {
                let network = snapshot.fleet_network(join.network);
                join.address = network.map_or(Ok(None), |network| asked_address(&endpoints[&key], network))?;
            }
            if name != key
                && let Some(endpoint) = endpoints.remove(&key)
            {
                endpoints.insert(name, endpoint);
            }
        }
    }
    Ok(found)
}

/// Has a container that names no network name this one.
fn name_default_network(body: &mut Map<String, Value>, network: &str) {
    let host = body.entry("HostConfig").or_insert(Value::Null);
    if host.is_null() {
        *host = Value::Object(Map::new());
    }
    let Some(host) = host.as_object_mut() else { return };
    let mode = host.get("NetworkMode").and_then(Value::as_str).unwrap_or("").to_owned();
    if !matches!(mode.as_str(), "" | "default") {
        return;
    }
    host.insert("NetworkMode".to_owned(), network.into());
    let endpoints = body.get_mut("NetworkingConfig").and_then(|config| config.get_mut("EndpointsConfig"));
    if let Some(endpoints) = endpoints.and_then(Value::as_object_mut)
        && let Some(endpoint) = endpoints.remove("default")
    {
        endpoints.insert(network.to_owned(), endpoint);
    }
}

impl References {
    /// A container to whose node this one is tied; its full id, which its engine knows.
    fn container(&mut self, snapshot: &Snapshot, reference: &str) -> Result<String, Error> {
        let container = crate::front::container(snapshot, reference)?;
        self.require(
            format!("container {}", container.name),
            snapshot.node(container.node).into_iter().map(AsRef::as_ref),
        );
        Ok(container.id.to_string())
    }

    /// A linked container: on Docker's own networks links only work on one host, on fleet networks they are names. Its plain
    /// name, which becomes an alias.
    fn linked(&mut self, snapshot: &Snapshot, reference: &str) -> Result<String, Error> {
        let container = crate::front::container(snapshot, reference)
            .map_err(|error| Error::new(error.class, format!("could not get container for {reference}: {error}")))?;
        if self.joins.is_empty() {
            let node = snapshot.node(container.node).into_iter().map(AsRef::as_ref);
            self.require(format!("linked container {}", container.name), node);
        }
        Ok(container.name.to_string())
    }

    /// A network; its plain name, or what it was if every engine has it.
    fn network(&mut self, snapshot: &Snapshot, reference: &str) -> Result<String, Error> {
        if EVERYWHERE.contains(&reference) {
            return Ok(reference.to_owned());
        }
        match view::networks::resolve(snapshot, reference)? {
            Found::Fleet(network) => {
                if !self.joins.iter().any(|join| join.network == network.id) {
                    self.joins.push(Join { network: network.id, name: network.name.clone(), address: None });
                }
                Ok(network.name.to_string())
            }
            Found::OfNode(node, network) => {
                self.require(format!("network {}", network.name), snapshot.node(node).into_iter().map(AsRef::as_ref));
                Ok(network.name.to_string())
            }
        }
    }

    /// What is mounted: a path of the host, or a volume. A volume that is nowhere yet will be made where the container is.
    fn source(&mut self, snapshot: &Snapshot, source: &str) -> Result<String, Error> {
        if source.starts_with('/') || source.starts_with('.') || source.starts_with('~') {
            self.binds.push(source.to_owned());
            return Ok(source.to_owned());
        }
        if let Some((node, volume)) = source.split_once('/') {
            let Some(node) = snapshot.node_named(node) else {
                return Err(Error::not_found(format!("volume {source}: no node is called {node}")));
            };
            self.require(format!("volume {source}"), [node.as_ref()]);
            return Ok(volume.to_owned());
        }
        let holders: Vec<&Node> =
            snapshot.nodes().filter(|node| node.volumes.contains_key(source)).map(AsRef::as_ref).collect();
        if !holders.is_empty() {
            self.require(format!("volume {source}"), holders);
        }
        Ok(source.to_owned())
    }

    fn require<'a>(&mut self, what: String, nodes: impl IntoIterator<Item = &'a Node>) {
        let nodes: Vec<_> = nodes.into_iter().collect();
        let names = nodes.iter().map(|node| node.name.as_ref().into()).collect();
        let nodes: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
        let requirement = Requirement { what, nodes, names };
        if !self.requirements.contains(&requirement) {
            self.requirements.push(requirement);
        }
    }
}
