//! The request as a whole.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use wharf_model::{
    ApiVersion, ByteSize, CPUS_LABEL, Cpus, Node, PortRange, PublishedPort, Resources, Snapshot, Transport,
};
use wharf_plan::{Platform, Requirement, Workload};

use super::{
    expressions,
    references::{self, References},
    wiring,
};
use crate::{
    Error,
    networks::{Join, Wiring},
};

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
    /// Whole processors that are asked for in the predecessor's way.
    cpus: Option<u32>,
    /// What is to become of it when its node is lost.
    reschedule: Option<String>,
    /// Fleet networks that it is to be on.
    pub(crate) joins: Vec<Join>,
    /// What it calls other containers there: name and alias.
    pub(crate) links: Vec<(String, String)>,
    /// Whether it has names of its own to ask for: not where it is in another's network namespace.
    has_resolver: bool,
    /// Whether the user's `ndots` was dropped.
    ndots: bool,
}

/// `--cpu-shares N` up to here means N processors, as the predecessor read it; more are what engines take them for, a weight
/// (512, 1024).
const SHARES_AS_CPUS: i64 = 127;

/// Engines of this version of the API connect a new container to several networks at once.
const SEVERAL_NETWORKS: ApiVersion = ApiVersion::new(1, 44);

/// A processor's weight.
const WEIGHT_OF_A_CPU: u64 = 1024;

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
    cpu_shares: Option<i64>,
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
    pub(crate) fn parse(
        body: &[u8],
        name: Option<&str>,
        platform: Option<&str>,
        snapshot: &Snapshot,
        default_network: Option<&str>,
    ) -> Result<Self, Error> {
        let malformed = |error: serde_json::Error| Error::invalid(format!("invalid JSON: {error}"));
        if body.trim_ascii().is_empty() {
            return Err(Error::invalid("invalid JSON: got EOF while reading request body"));
        }
        let mut body: Map<String, Value> = serde_json::from_slice(body).map_err(malformed)?;
        let name = name.map(check_name).transpose()?;
        fold_legacy(&mut body);
        let view: View = serde_json::from_value(Value::Object(body.clone())).map_err(malformed)?;
        let Some(image) = view.image.filter(|image| !image.is_empty()) else {
            return Err(Error::invalid("no image is named: Image is empty"));
        };
        let wishes = expressions::take(&mut body)?;
        let References { mut requirements, binds, joins, links } =
            references::resolve(&mut body, snapshot, default_network)?;
        requirements.extend(joins.iter().filter_map(|join| owner_of(join, snapshot)));
        let host = view.host_config.unwrap_or_default();
        // As it is by now: references in it have been followed.
        let mode =
            body.get("HostConfig").and_then(|host| host.get("NetworkMode")).and_then(Value::as_str).unwrap_or("");
        let has_resolver = !matches!(mode, "host" | "none") && !mode.starts_with("container:");
        let ndots = has_resolver && drop_ndots(&mut body);
        let host_network = host.network_mode.as_deref() == Some("host");
        let exposed = view.exposed_ports.unwrap_or_default();
        let labels = view.labels.unwrap_or_default().into_iter();
        let labels = labels.map(|(key, value)| (key, value.unwrap_or_default())).collect();
        let (published, ranges) = if host_network { Default::default() } else { published(&host)? };
        let cpus = host.cpu_shares.filter(|shares| (1..=SHARES_AS_CPUS).contains(shares));
        let cpus = cpus.and_then(|cpus| u32::try_from(cpus).ok());
        let mut resources = resources(&host);
        resources.cpus = resources.cpus.max(Cpus::from_cores(cpus.unwrap_or(0)));
        let workload = Workload {
            name: name.map(Into::into),
            image: image.as_str().into(),
            resources,
            published,
            ranges,
            host_ports: if host_network {
                exposed.keys().filter_map(|port| container_port(port)).collect()
            } else {
                Vec::new()
            },
            labels,
            constraints: wishes.constraints,
            affinities: wishes.affinities,
            whitelists: wishes.whitelists,
            platform: platform.map(Platform::parse),
            api: needed_api(&body),
            requirements,
            networks: joins.iter().map(|join| join.name.clone()).collect(),
            exclude: std::collections::BTreeSet::new(),
        };
        let nodes = snapshot.node_count();
        let reschedule = wishes.reschedule;
        Ok(Self { image, workload, body, binds, nodes, cpus, reschedule, joins, links, has_resolver, ndots })
    }

    /// The request for the engine of a node, with more labels, with its place on fleet networks, and with variables that the
    /// user has not set.
    pub(crate) fn for_engine(
        &self,
        node: &Node,
        labels: &[(&str, String)],
        wiring: &Wiring,
        variables: &[String],
    ) -> ForEngine {
        let mut body = self.body.clone();
        wiring::set_variables(&mut body, variables);
        labels.iter().for_each(|(key, value)| set_label(&mut body, key, value));
        wiring::connect(&mut body, wiring, &self.links);
        if let (true, Some(names)) = (self.has_resolver, wiring.names) {
            wiring::ask_for_names_at(&mut body, names, node);
        }
        let one_network = node.engine.as_ref().is_some_and(|engine| engine.api < SEVERAL_NETWORKS);
        let further = if one_network { keep_one_network(&mut body) } else { Vec::new() };
        let has = node.engine.as_ref().map_or(0, |engine| engine.total.cpus.as_nanos() / 1_000_000_000);
        if let (Some(cpus), Some(host)) = (self.cpus, body.get_mut("HostConfig").and_then(Value::as_object_mut)) {
            let weight = (u64::from(cpus) * WEIGHT_OF_A_CPU).div_ceil(has.max(1));
            host.insert("CpuShares".to_owned(), weight.into());
            // The engine keeps the weight alone: what it was made of is read back from here.
            set_label(&mut body, CPUS_LABEL, &cpus.to_string());
        }
        ForEngine { body: Value::Object(body).to_string(), further }
    }

    /// What the user should know of the container's place.
    pub(crate) fn warnings(&self, node: &str) -> Vec<String> {
        let binds = self.binds.iter().filter(|_| self.nodes > 1);
        let binds = binds.map(|path| format!("{path} is the path of that name on {node}, where the container is"));
        let stays = self.reschedule.iter().filter(|policy| *policy != "off").map(|policy| {
            format!("reschedule:{policy} is kept with the container; Wharf does not move containers off lost nodes yet")
        });
        let ndots = self.ndots.then(|| {
            "the option ndots is left out: with it, the engine would look for names of other hosts nowhere".to_owned()
        });
        binds.chain(stays).chain(ndots).collect()
    }
}

/// The node that a container has to be on because of the address that it asks for.
fn owner_of(join: &Join, snapshot: &Snapshot) -> Option<Requirement> {
    let address = join.address?;
    let (slice, node) = snapshot.fleet_network(join.network)?.slice_with(address)?;
    let name = snapshot.node(node).map(|node| (*node.name).into());
    Some(Requirement {
        what: format!("address {address} of network {} (of the block {slice})", join.name),
        nodes: [node].into(),
        names: name.into_iter().collect(),
    })
}

/// Takes `ndots` out of the resolver's options: with it, engines do not pass on names without a dot. Whether it was there.
fn drop_ndots(body: &mut Map<String, Value>) -> bool {
    let options = body.get_mut("HostConfig").and_then(|host| host.get_mut("DnsOptions"));
    let Some(options) = options.and_then(Value::as_array_mut) else { return false };
    let count = options.len();
    options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("ndots:") && option != "ndots:0"));
    options.len() < count
}

/// A create as an engine understands it.
#[derive(Debug)]
pub(crate) struct ForEngine {
    /// The body.
    pub(crate) body: String,
    /// Networks that it has to be connected to afterwards, and how, because its engine takes one at a time.
    pub(crate) further: Vec<(String, Value)>,
}

/// Takes out all networks but the one of the network mode. On older engines an address of hardware is the container's.
fn keep_one_network(body: &mut Map<String, Value>) -> Vec<(String, Value)> {
    let mode = body.get("HostConfig").and_then(|host| host.get("NetworkMode")).and_then(Value::as_str);
    let mode = mode.unwrap_or_default().to_owned();
    let endpoints = body.get_mut("NetworkingConfig").and_then(|config| config.get_mut("EndpointsConfig"));
    let Some(endpoints) = endpoints.and_then(Value::as_object_mut) else { return Vec::new() };
    let Some(first) = endpoints.keys().find(|name| **name == mode).or_else(|| endpoints.keys().next()).cloned() else {
        return Vec::new();
    };
    let (kept, further) = std::mem::take(endpoints).into_iter().partition::<Vec<_>, _>(|(name, _)| *name == first);
    let address = kept.iter().find_map(|(_, endpoint)| endpoint.get("MacAddress")).cloned();
    endpoints.extend(kept);
    let has_one = body.get("MacAddress").and_then(Value::as_str).is_some_and(|address| !address.is_empty());
    if let (Some(address), false) = (address, has_one) {
        body.insert("MacAddress".to_owned(), address);
    }
    further
}

/// Sets a label of a request. Labels that are no object are the engine's to refuse.
pub(super) fn set_label(body: &mut Map<String, Value>, key: &str, value: &str) {
    let labels = body.entry("Labels").or_insert(Value::Null);
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(key.to_owned(), Value::String(value.to_owned()));
    }
}

/// Clients of the API's first years ask for resources beside `HostConfig` instead of in it.
fn fold_legacy(body: &mut Map<String, Value>) {
    for (old, new) in
        [("Memory", "Memory"), ("MemorySwap", "MemorySwap"), ("CpuShares", "CpuShares"), ("Cpuset", "CpusetCpus")]
    {
        let Some(value) = body.remove(old).filter(|value| !matches!(value.as_i64(), Some(0)) && *value != "") else {
            continue;
        };
        let host = body.entry("HostConfig").or_insert(Value::Null);
        if host.is_null() {
            *host = Value::Object(Map::new());
        }
        let Some(host) = host.as_object_mut() else { return };
        let has = host.get(new).is_some_and(|known| !matches!(known.as_i64(), Some(0)) && *known != "");
        if !has && !value.is_null() {
            host.insert(new.to_owned(), value);
        }
    }
}

/// The newest of the fields that are asked for and that older engines would leave out in silence, where that would make it
/// another container.
fn needed_api(body: &Map<String, Value>) -> Option<(ApiVersion, &'static str)> {
    let api = |minor| ApiVersion::new(1, minor);
    let set = |value: Option<&Value>| match value {
        None | Some(Value::Null) => false,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    };
    let host = body.get("HostConfig");
    let mounts = || host.and_then(|host| host.get("Mounts")).and_then(Value::as_array).into_iter().flatten();
    let endpoints = body.get("NetworkingConfig").and_then(|config| config.get("EndpointsConfig"));
    let endpoints = || endpoints.and_then(Value::as_object).into_iter().flat_map(|endpoints| endpoints.values());
    let health = body.get("Healthcheck");
    [
        (api(48), "an image mount", mounts().any(|mount| mount.get("Type").is_some_and(|kind| kind == "image"))),
        (api(48), "GwPriority", endpoints().any(|endpoint| set(endpoint.get("GwPriority")))),
        (api(44), "Healthcheck.StartInterval", set(health.and_then(|health| health.get("StartInterval")))),
        (api(43), "HostConfig.Annotations", set(host.and_then(|host| host.get("Annotations")))),
        (api(42), "a cluster mount", mounts().any(|mount| mount.get("Type").is_some_and(|kind| kind == "cluster"))),
    ]
    .into_iter()
    .find_map(|(version, what, asked)| asked.then_some((version, what)))
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

/// The ports that are published, and the ranges of which any one is.
fn published(host: &HostView) -> Result<(Vec<PublishedPort>, Vec<PortRange>), Error> {
    let (mut ports, mut ranges) = (Vec::new(), Vec::new());
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
                    Some((first, last)) if number(first)? <= number(last)? => {
                        ranges.push(PortRange { address, first: number(first)?, last: number(last)?, transport });
                        continue;
                    }
                    Some(_) => return Err(bad(text)),
                    None => Some(number(text)?),
                },
            };
            ports.push(PublishedPort { address, host, container, transport });
        }
    }
    Ok((ports, ranges))
}

#[cfg(test)]
mod tests;
