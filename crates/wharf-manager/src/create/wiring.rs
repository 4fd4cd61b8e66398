//! A create request on fleet networks: its endpoints get their addresses, and it asks the node's agent for names.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};
use wharf_model::{DNS_LABEL, Node};

use super::request::set_label;
use crate::networks::{Wiring, endpoint_for_engine};

/// Resolvers take three servers.
const SERVERS: usize = 3;

/// Gives each endpoint on a fleet network its address; `links` become names on the first one.
pub(super) fn connect(body: &mut Map<String, Value>, wiring: &Wiring, links: &[(String, String)]) {
    if wiring.leases.is_empty() {
        return;
    }
    let config = object(body, "NetworkingConfig");
    let endpoints = object(config, "EndpointsConfig");
    for (index, (name, lease)) in wiring.leases.iter().enumerate() {
        let mut asked = endpoints.remove(&**name).unwrap_or(Value::Null);
        if index == 0 && !links.is_empty() {
            if !asked.is_object() {
                asked = json!({});
            }
            let mut known = asked["Links"].as_array().cloned().unwrap_or_default();
            known.extend(links.iter().map(|(target, alias)| Value::from(format!("{target}:{alias}"))));
            asked["Links"] = known.into();
        }
        endpoints.insert(name.to_string(), endpoint_for_engine(&asked, lease.address, lease.address6));
    }
    // They are names now; an engine would look for the linked containers on its own host.
    if !links.is_empty() {
        object(body, "HostConfig").insert("Links".to_owned(), Value::Null);
    }
}

/// Adds variables to the environment; what the user has set stays.
pub(super) fn set_variables(body: &mut Map<String, Value>, variables: &[String]) {
    if variables.is_empty() {
        return;
    }
    let mut all = body.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let set: std::collections::BTreeSet<_> = all.iter().filter_map(Value::as_str).map(key).collect();
    all.extend(variables.iter().filter(|variable| !set.contains(&key(variable))).cloned().map(Value::from));
    body.insert("Env".to_owned(), all.into());
}

/// Has the container ask the agent first, and then whom it would have asked without it.
pub(super) fn ask_for_names_at(body: &mut Map<String, Value>, agent: Ipv4Addr, node: &Node) {
    let asked = object(body, "HostConfig").get("Dns").and_then(Value::as_array).cloned().unwrap_or_default();
    let asked: Vec<String> = asked.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if !asked.is_empty() {
        set_label(body, DNS_LABEL, &asked.join(","));
    }
    let of_host = || {
        // A loopback address is another one in the container.
        let known = node.agent.iter().flat_map(|agent| &agent.resolvers).filter(|address| !address.is_loopback());
        known.map(IpAddr::to_string).collect()
    };
    let others = if asked.is_empty() { of_host() } else { asked };
    let servers: Vec<_> = [agent.to_string()].into_iter().chain(others).take(SERVERS).collect();
    object(body, "HostConfig").insert("Dns".to_owned(), json!(servers));
}

/// An object in an object; made where there is none.
fn object<'a>(owner: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = owner.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it is one by now")
}
