//! Containers as clients see them.

mod list;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use wharf_engine::wire::Error as WireError;
use wharf_model::{ContainerId, DNS_LABEL, Node};

pub(crate) use self::list::{List, ListQuery};
use super::NODE_LABEL;
use crate::{
    Error,
    networks::{default_bridge, endpoint_for_client, gateway},
};

/// Addresses that mean every address of a host.
const UNSPECIFIED: [&str; 2] = ["0.0.0.0", "::"];

/// How containers are called in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// `/web`, as an engine does it: Compose understands nothing else.
    #[default]
    Plain,
    /// `/node1/web`, as the predecessor did it.
    Node,
}

/// Makes a container's entry of `GET /containers/json` ready for clients: its node in a label (and in its names, if they are
/// to have it), and the host's address in the place of "all addresses". `listed` is the engine's entry.
///
/// # Errors
/// [`WireError::Json`] if it is no JSON object.
pub(crate) fn entry(listed: &str, node: &str, host: Option<&str>, naming: Naming) -> Result<Box<str>, WireError> {
    // There are tens of thousands of them at a start: what stays as it is stays text.
    let mut entry = Entry::parse(listed)?;
    if entry.0.get("Labels").is_none_or(|labels| labels.get() == "null") {
        entry.put("Labels", &Map::new())?;
    }
    entry.change("Labels", |labels: &mut Map<String, Value>| {
        labels.insert(NODE_LABEL.to_owned(), node.into());
    })?;
    if naming == Naming::Node {
        entry.change("Names", |names: &mut Vec<String>| {
            names.iter_mut().for_each(|name| *name = format!("/{node}{name}"));
        })?;
    }
    if let Some(host) = host
        && entry.0.get("Ports").is_some_and(|ports| ports.get() != "[]")
    {
        entry.change("Ports", |ports: &mut Vec<Value>| {
            let mut seen = BTreeSet::new();
            for port in ports.iter_mut() {
                place(port, "IP", host);
            }
            // IPv4's and IPv6's "all addresses" are one address now.
            ports.retain(|port| seen.insert(port.to_string()));
        })?;
    }
    // What only costs room: the status is told from what is known, and sizes are asked for when they are wanted.
    entry.0.shift_remove("Status");
    let text = serde_json::to_string(&entry.0).map_err(unlisted)?;
    let head = text.strip_suffix('}').unwrap_or(&text);
    Ok(format!("{head},\"Status\":\"").into())
}

/// An entry of a list: its fields, in their order, as text.
struct Entry<'a>(IndexMap<String, Cow<'a, RawValue>>);

impl<'a> Entry<'a> {
    fn parse(listed: &'a str) -> Result<Self, WireError> {
        let fields: IndexMap<String, &RawValue> = serde_json::from_str(listed).map_err(unlisted)?;
        Ok(Self(fields.into_iter().map(|(field, value)| (field, Cow::Borrowed(value))).collect()))
    }

    /// Changes a field; nothing happens if there is none such, or something else than it should be.
    fn change<T: DeserializeOwned + Serialize>(
        &mut self,
        field: &str,
        change: impl FnOnce(&mut T),
    ) -> Result<(), WireError> {
        let Some(mut value) = self.0.get(field).and_then(|value| serde_json::from_str(value.get()).ok()) else {
            return Ok(());
        };
        change(&mut value);
        self.put(field, &value)
    }

    fn put(&mut self, field: &str, value: &impl Serialize) -> Result<(), WireError> {
        self.0.insert(field.to_owned(), Cow::Owned(to_raw_value(value).map_err(unlisted)?));
        Ok(())
    }
}

fn unlisted(source: serde_json::Error) -> WireError {
    WireError::Json { what: "a container", source }
}

/// Makes an engine's `GET /containers/{id}/json` ready for clients: adds `Node`, as the predecessor did, the node's label,
/// and the host's address in the place of "all addresses".
///
/// # Errors
/// [`wharf_model::Class::Internal`] if it is no JSON object.
pub(crate) fn inspect(body: &[u8], node: &Node) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::internal(format!("{} gave an answer that cannot be read: {error}", node.name));
    let mut container: Map<String, Value> = serde_json::from_slice(body).map_err(unreadable)?;
    if let Some(config) = container.get_mut("Config").and_then(Value::as_object_mut) {
        label(config, &node.name);
    }
    let ports = container.get_mut("NetworkSettings").and_then(|settings| settings.get_mut("Ports"));
    if let (Some(host), Some(ports)) = (node.host(), ports.and_then(Value::as_object_mut)) {
        for bindings in ports.values_mut().filter_map(Value::as_array_mut) {
            let mut seen = BTreeSet::new();
            for binding in bindings.iter_mut() {
                place(binding, "HostIp", host);
            }
            bindings.retain(|binding| seen.insert(binding.to_string()));
        }
    }
    own_networks(&mut container, node);
    let engine = node.engine.as_deref();
    let total = engine.map(|engine| engine.total).unwrap_or_default();
    let labels = node.all_labels();
    container.insert(
        "Node".to_owned(),
        json!({
            "ID": engine.map_or("", |engine| &engine.id),
            "IP": node.host().unwrap_or("127.0.0.1"),
            "Addr": node.endpoint.address(),
            "Name": &*node.name,
            "Cpus": total.cpus.as_nanos() / 1_000_000_000,
            "Memory": total.memory.0,
            "Labels": labels,
        }),
    );
    Ok(Value::Object(container).to_string().into_bytes())
}

/// Makes what Wharf has its own way with the client's again: endpoints on fleet networks, and whom it asks for names.
fn own_networks(container: &mut Map<String, Value>, node: &Node) {
    let id = container.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let networks = container.get_mut("NetworkSettings").and_then(|settings| settings.get_mut("Networks"));
    if let Some(networks) = networks.and_then(Value::as_object_mut) {
        endpoint_for_client(networks, node, &id);
    }
    let asked = container.get("Config").and_then(|config| config["Labels"][DNS_LABEL].as_str());
    let asked: Vec<_> = asked.into_iter().flat_map(|asked| asked.split(',')).map(str::to_owned).collect();
    let servers = container.get_mut("HostConfig").and_then(|host| host.get_mut("Dns"));
    if let Some(servers) = servers
        && let Some(first) = servers.as_array().and_then(|servers| servers.first()).and_then(Value::as_str)
        && is_agents(first, node)
    {
        *servers = asked.into();
    }
}

/// Whether a DNS server is the node's agent: the node has its address.
fn is_agents(server: &str, node: &Node) -> bool {
    let Ok(server) = server.parse::<std::net::Ipv4Addr>() else { return false };
    default_bridge(node) == Some(server)
        || node.networks.values().any(|part| part.fleet.is_some() && gateway(&part.entry) == Some(server))
}

/// The sizes in an engine's `GET /containers/json?size=1`: of the writable layer, and of all of it.
pub(crate) fn sizes(body: &[u8]) -> BTreeMap<ContainerId, (i64, i64)> {
    #[derive(Deserialize)]
    struct Sized {
        #[serde(rename = "Id")]
        id: String,
        #[serde(rename = "SizeRw", default)]
        writable: i64,
        #[serde(rename = "SizeRootFs", default)]
        all: i64,
    }
    let sized: Vec<Sized> = serde_json::from_slice(body).unwrap_or_default();
    sized.into_iter().filter_map(|sized| Some((sized.id.parse().ok()?, (sized.writable, sized.all)))).collect()
}

/// A list with the sizes put in.
///
/// # Errors
/// [`wharf_model::Class::Internal`] if the list is none.
pub(crate) fn with_sizes(listed: &[u8], sizes: &BTreeMap<ContainerId, (i64, i64)>) -> Result<Vec<u8>, Error> {
    let mut entries: Vec<Map<String, Value>> =
        serde_json::from_slice(listed).map_err(|error| Error::internal(error.to_string()))?;
    for entry in &mut entries {
        let id = entry.get("Id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        if let Some((writable, all)) = id.and_then(|id: ContainerId| sizes.get(&id)) {
            entry.insert("SizeRw".to_owned(), json!(writable));
            entry.insert("SizeRootFs".to_owned(), json!(all));
        }
    }
    serde_json::to_vec(&entries).map_err(|error| Error::internal(error.to_string()))
}

fn label(owner: &mut Map<String, Value>, node: &str) {
    let labels = owner.entry("Labels").or_insert(Value::Null);
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(NODE_LABEL.to_owned(), Value::String(node.to_owned()));
    }
}

/// Puts the host's address in the place of "all addresses".
fn place(binding: &mut Value, field: &str, host: &str) {
    if let Some(address) = binding.get_mut(field)
        && address
            .as_str()
            .is_some_and(|address| UNSPECIFIED.contains(&address) || (field == "HostIp" && address.is_empty()))
    {
        *address = Value::String(host.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(listed: &str, naming: Naming) -> String {
        format!("{}Up{}", entry(listed, "node1", Some("10.0.0.1"), naming).unwrap(), wharf_model::ENTRY_END)
    }

    #[test]
    fn an_entry_keeps_what_is_not_the_fleets_to_say() {
        let listed = r#"{"Id":"a","Names":["/web","/db/alias"],"Command":"echo \u003c","Created":1.0,"Ports":[
            {"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"PrivatePort":90,"Type":"tcp"}],"Labels":{"a":"b"},"Status":"Up 3 minutes","More":{"x":[null]}}"#;
        let ports =
            r#"[{"IP":"10.0.0.1","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":90,"Type":"tcp"}]"#;
        let labels = r#"{"a":"b","wharf.node":"node1"}"#;
        let entry = |names: &str| {
            format!(
                r#"{{"Id":"a","Names":{names},"Command":"echo \u003c","Created":1.0,"Ports":{ports},"Labels":{labels},"More":{{"x":[null]}},"Status":"Up"}}"#
            )
        };
        assert_eq!(shown(listed, Naming::Plain), entry(r#"["/web","/db/alias"]"#));
        assert_eq!(shown(listed, Naming::Node), entry(r#"["/node1/web","/node1/db/alias"]"#));
    }

    #[test]
    fn what_an_entry_lacks_is_no_trouble() {
        let labelled = |entry: String| entry.contains(r#""Labels":{"wharf.node":"node1"}"#);
        assert!(labelled(shown(r#"{"Id":"a"}"#, Naming::Node)));
        assert!(labelled(shown(r#"{"Id":"a","Labels":null,"Names":null,"Ports":null}"#, Naming::Node)));
        assert_eq!(shown(r#"{"Labels":7}"#, Naming::Plain), r#"{"Labels":7,"Status":"Up"}"#);
        assert!(entry("[]", "node1", None, Naming::Plain).is_err());
    }
}
