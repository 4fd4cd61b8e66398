//! The request as a whole.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use wharf_model::{ByteSize, Cpus, PublishedPort, Resources, Snapshot, Transport};
use wharf_plan::Workload;

use super::{
    expressions,
    references::{self, References},
};
use crate::Error;

/// A create request that has been understood.
#[derive(Debug, Clone)]
pub(crate) struct CreateRequest {
    /// The image, as the user named it.
    pub(crate) image: String,
    /// What is to be placed.
    pub(crate) workload: Workload,
    body: Map<String, Value>,
    /// Paths of the host that are mounted.
    binds: Vec<String>,
    nodes: usize,
}

/// The few fields that are decided on. Clients may send `null` for any: it means the same as nothing, as it does to engines.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct View {
    image: Option<String>,
    labels: Option<BTreeMap<Box<str>, Option<Box<str>>>>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    host_config: Option<HostView>,
}

/// The few fields of `HostConfig` that are decided on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostView {
    memory: Option<i64>,
    memory_reservation: Option<i64>,
    nano_cpus: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_period: Option<i64>,
    network_mode: Option<String>,
    port_bindings: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Binding {
    #[serde(rename = "HostIp")]
    address: Option<String>,
    #[serde(rename = "HostPort")]
    port: Option<String>,
}

impl CreateRequest {
    /// Understands a request's body, in the light of what is known of the fleet.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] for what is malformed, [`wharf_model::Class::NotFound`] for what it refers to and is
    /// not there, in Docker's words where Docker has some.
    pub(crate) fn parse(body: &[u8], name: Option<&str>, snapshot: &Snapshot) -> Result<Self, Error> {
        let malformed = |error: serde_json::Error| Error::invalid(format!("invalid JSON: {error}"));
        if body.trim_ascii().is_empty() {
            return Err(Error::invalid("invalid JSON: got EOF while reading request body"));
        }
        let mut body: Map<String, Value> = serde_json::from_slice(body).map_err(malformed)?;
        let view: View = serde_json::from_value(Value::Object(body.clone())).map_err(malformed)?;
        let name = name.map(check_name).transpose()?;
        let Some(image) = view.image.filter(|image| !image.is_empty()) else {
            return Err(Error::invalid("no image is named: Image is empty"));
        };
        let constraints = expressions::take(&mut body)?;
        let References { requirements, binds } = references::resolve(&mut body, snapshot)?;
        let host = view.host_config.unwrap_or_default();
        let host_network = host.network_mode.as_deref() == Some("host");
        let exposed = view.exposed_ports.unwrap_or_default();
        let labels = view.labels.unwrap_or_default().into_iter();
        let labels = labels.map(|(key, value)| (key, value.unwrap_or_default())).collect();
        let workload = Workload {
            name: name.map(Into::into),
            image: image.as_str().into(),
            resources: resources(&host),
            published: if host_network { Vec::new() } else { published(&host)? },
            host_ports: if host_network {
                exposed.keys().filter_map(|port| container_port(port)).collect()
            } else {
                Vec::new()
            },
            labels,
            constraints,
            requirements,
            exclude: std::collections::BTreeSet::new(),
        };
        let nodes = snapshot.nodes().count();
        Ok(Self { image, workload, body, binds, nodes })
    }

    /// The body for the engine, with one more label.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`] if the labels are no object.
    pub(crate) fn body_with_label(&self, key: &str, value: &str) -> Result<Vec<u8>, Error> {
        let mut body = self.body.clone();
        let labels = body.entry("Labels").or_insert(Value::Null);
        if labels.is_null() {
            *labels = Value::Object(Map::new());
        }
        let labels = labels.as_object_mut().ok_or_else(|| Error::invalid("invalid JSON: Labels is no object"))?;
        labels.insert(key.to_owned(), Value::String(value.to_owned()));
        serde_json::to_vec(&body).map_err(|error| Error::internal(error.to_string()))
    }

    /// What the user should know of the container's place.
    pub(crate) fn warnings(&self, node: &str) -> Vec<String> {
        if self.nodes < 2 {
            return Vec::new();
        }
        self.binds
            .iter()
            .map(|path| format!("{path} is the path of that name on {node}, where the container is"))
            .collect()
    }
}

/// Docker's rule, in Docker's words.
fn check_name(name: &str) -> Result<&str, Error> {
    let bare = name.trim_start_matches('/');
    let mut chars = bare.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && bare.len() > 1 && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Ok(bare);
    }
    Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

fn resources(host: &HostView) -> Resources {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let memory = positive(host.memory).or_else(|| positive(host.memory_reservation)).unwrap_or(0);
    let by_quota = || {
        // Docker's default period, in microseconds.
        let period = positive(host.cpu_period).unwrap_or(100_000);
        positive(host.cpu_quota).map(|quota| quota.saturating_mul(1_000_000_000) / period)
    };
    let nanos = positive(host.nano_cpus).or_else(by_quota).unwrap_or(0);
    Resources { cpus: Cpus::from_nanos(nanos), memory: ByteSize(memory) }
}

/// `80/tcp`, or `80`, which is the same.
fn container_port(text: &str) -> Option<(u16, Transport)> {
    let (port, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, Transport::parse(transport)?))
}

fn published(host: &HostView) -> Result<Vec<PublishedPort>, Error> {
    let mut ports = Vec::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let bad = |what: &str| Error::invalid(format!("invalid port specification: {what:?}"));
        let (container, transport) = container_port(port).ok_or_else(|| bad(port))?;
        for binding in bindings.iter().flatten() {
            let address = match binding.address.as_deref().unwrap_or("") {
                "" => None,
                text => {
                    Some(text.parse::<std::net::IpAddr>().map_err(|_| bad(text))?).filter(|ip| !ip.is_unspecified())
                }
            };
            let number = |text: &str| text.parse::<u16>().map_err(|_| bad(text));
            let host = match binding.port.as_deref().unwrap_or("") {
                "" | "0" => None,
                text => match text.split_once('-') {
                    // Of a range the engine takes any that is free: nothing to be had exclusively.
                    Some((first, last)) if number(first)? <= number(last)? => None,
                    Some(_) => return Err(bad(text)),
                    None => Some(number(text)?),
                },
            };
            ports.push(PublishedPort { address, host, container, transport });
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests;
