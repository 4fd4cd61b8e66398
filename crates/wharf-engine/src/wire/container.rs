use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use wharf_model::{
    AGENT_LABEL, Attachment, ByteSize, CPUS_LABEL, Container, ContainerHealth, ContainerId, Cpus, ENDPOINT_OPTION,
    FleetEndpoint, MountPoint, NodeId, Phase, PublishedPort, Resources, Timestamp, Transport,
};

use super::{Error, parse, time};

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "Id")]
    id: String,
}

/// Splits `GET /containers/json` into its entries, each with its id.
///
/// # Errors
/// [`Error::Json`], [`Error::Field`] for an id that is none.
pub fn listed(body: &[u8]) -> Result<Vec<(ContainerId, &str)>, Error> {
    let entries: Vec<&RawValue> = parse("GET /containers/json", body)?;
    let id = |entry: &'_ RawValue| {
        let id: Id = parse("a container", entry.get().as_bytes())?;
        id.id.parse::<ContainerId>().map_err(|_| Error::Field { what: "a container", field: "Id", value: id.id })
    };
    entries.into_iter().map(|entry| Ok((id(entry)?, entry.get()))).collect()
}

/// A number that differs, as good as surely, between entries of `GET /containers/json` that differ in more than their status, which
/// changes as time goes by, and the order of their ports and mounts, which engines change at will; and between the names of nodes.
pub fn fingerprint(entry: &str, node: &str) -> u64 {
    let hash = |piece: &str| {
        let mut hasher = DefaultHasher::new();
        piece.hash(&mut hasher);
        hasher.finish()
    };
    // Within a text it would be escaped; a label of that name comes before.
    let (head, tail) = entry.rsplit_once(",\"Status\":\"").unwrap_or((entry, ""));
    let tail = tail.split_once('"').map_or("", |(_, tail)| tail);
    let pieces = [head, tail].into_iter().flat_map(|text| text.split(['{', '}']));
    let pieces = pieces.map(|piece| hash(piece.trim_matches([',', '[', ']'])));
    pieces.fold(hash(node), u64::wrapping_add)
}

/// Whether an entry of `GET /containers/json` is Wharf's own agent.
pub fn is_agent(entry: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Labelled {
        labels: Option<BTreeMap<Box<str>, serde::de::IgnoredAny>>,
    }
    // Nearly all are not, and there are many: a look at the text comes first.
    entry.contains(AGENT_LABEL)
        && serde_json::from_str::<Labelled>(entry)
            .is_ok_and(|entry| entry.labels.is_some_and(|labels| labels.contains_key(AGENT_LABEL)))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    image: Box<str>,
    #[serde(rename = "ImageID")]
    image_id: String,
    created: i64,
    ports: Option<Vec<ListedPort>>,
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    state: String,
    status: Box<str>,
    host_config: Option<ListedHost>,
    network_settings: Option<NetworkSettings>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ListedHost {
    network_mode: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ListedPort {
    #[serde(rename = "IP")]
    address: String,
    #[serde(rename = "PrivatePort")]
    private: u16,
    #[serde(rename = "PublicPort")]
    public: u16,
    #[serde(rename = "Type")]
    transport: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    name: String,
    state: State,
    config: Config,
    host_config: HostConfig,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct State {
    status: String,
    exit_code: i64,
    started_at: String,
    finished_at: String,
    health: Option<Health>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: Box<str>,
    #[serde(default)]
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    #[serde(default)]
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct HostConfig {
    memory: i64,
    memory_reservation: i64,
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    network_mode: Box<str>,
    port_bindings: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Deserialize)]
struct Binding {
    #[serde(rename = "HostIp", default)]
    address: String,
    #[serde(rename = "HostPort", default)]
    port: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<Box<str>, Option<Endpoint>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(rename = "EndpointID")]
    id: Box<str>,
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "MacAddress")]
    mac: Box<str>,
    #[serde(rename = "IPAMConfig")]
    asked: Option<Asked>,
    #[serde(rename = "DriverOpts")]
    options: Option<BTreeMap<Box<str>, Box<str>>>,
}

/// The address that an endpoint was asked to have.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    #[serde(rename = "IPv4Address")]
    address: String,
}

/// What a client asked of an endpoint of a fleet network: [`ENDPOINT_OPTION`].
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Kept {
    aliases: Option<Vec<Box<str>>>,
    links: Option<Vec<Box<str>>>,
}

fn attachment((name, endpoint): (Box<str>, Option<Endpoint>)) -> Attachment {
    let endpoint = endpoint.unwrap_or_default();
    let asked = || endpoint.asked.as_ref()?.address.parse().ok();
    let kept = endpoint.options.as_ref().and_then(|options| options.get(ENDPOINT_OPTION));
    let kept = kept.map(|text| serde_json::from_str::<Kept>(text).unwrap_or_default());
    Attachment {
        name,
        id: endpoint.network.parse().ok(),
        address: endpoint.address.parse().ok().or_else(asked),
        fleet: kept.map(|kept| {
            let links = kept.links.into_iter().flatten();
            let links = links.map(|link| {
                let (target, alias) = link.split_once(':').unwrap_or((&link, &link));
                (target.into(), alias.into())
            });
            let aliases = kept.aliases.unwrap_or_default();
            Box::new(FleetEndpoint { id: endpoint.id, mac: endpoint.mac, aliases, links: links.collect() })
        }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Mount {
    name: Option<Box<str>>,
    source: Box<str>,
    destination: Box<str>,
}

impl Mount {
    fn point(self) -> MountPoint {
        let volume = self.name.filter(|name| !name.is_empty());
        MountPoint { volume, source: self.source, destination: self.destination }
    }
}

/// A container that has been listed, with what `GET /containers/{id}/json` tells of it beside.
///
/// # Errors
/// [`Error::Json`], [`Error::Field`]
pub fn container(listed: &Container, inspected: &[u8]) -> Result<Container, Error> {
    // Logs and commands that are no UTF-8 do not lose a container.
    let wire: Inspected = parse("GET /containers/{id}/json", String::from_utf8_lossy(inspected).as_bytes())?;
    let id = wire.id.parse().map_err(|_| Error::Field { what: "a container", field: "Id", value: wire.id })?;
    let settings = wire.network_settings.unwrap_or_default();
    let networks = settings.networks.unwrap_or_default().into_iter().map(attachment);
    let mounts = wire.mounts.unwrap_or_default().into_iter().map(Mount::point);
    Ok(Container {
        id,
        node: listed.node,
        name: wire.name.trim_start_matches('/').into(),
        image: wire.config.image,
        image_id: listed.image_id,
        // The list knows only the second.
        created: time(&wire.created).unwrap_or(listed.created),
        // What an engine of tomorrow calls a phase that is not known here is certainly not running.
        phase: Phase::parse(&wire.state.status).unwrap_or(Phase::Exited),
        exit_code: wire.state.exit_code,
        started: time(&wire.state.started_at),
        finished: time(&wire.state.finished_at),
        health: health(wire.state.health.as_ref()),
        labels: wire.config.labels.iter().flatten().collect(),
        reserved: reserved(&wire.host_config, wire.config.labels.as_ref()),
        published: published(wire.host_config.port_bindings.as_ref(), settings.ports.as_ref()),
        exposed: wire.config.exposed_ports.unwrap_or_default().keys().filter_map(|port| container_port(port)).collect(),
        network_mode: wire.host_config.network_mode,
        networks: networks.collect(),
        mounts: mounts.collect(),
        entry: listed.entry.clone(),
        fingerprint: listed.fingerprint,
        listed: None,
    })
}

/// Reads what a container's entry of `GET /containers/json` alone tells of it, with its [`fingerprint`]. `entry` is how it will be
/// listed.
///
/// # Errors
/// [`Error::Json`], [`Error::Field`]
pub fn listed_container(node: NodeId, listed: &str, fingerprint: u64, entry: Box<str>) -> Result<Container, Error> {
    let wire: Listed = parse("a container", listed.as_bytes())?;
    let id = wire.id.parse().map_err(|_| Error::Field { what: "a container", field: "Id", value: wire.id })?;
    // Links show a container under further names, which have a slash more.
    let name = wire.names.iter().flatten().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    let settings = wire.network_settings.unwrap_or_default();
    let networks = settings.networks.unwrap_or_default().into_iter().map(attachment);
    let (mut published, mut exposed) = (Vec::new(), Vec::new());
    for port in wire.ports.into_iter().flatten() {
        let Some(transport) = Transport::parse(&port.transport) else { continue };
        let address = port.address.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
        let known = PublishedPort { address, host: Some(port.public), container: port.private, transport };
        if port.public > 0 && !published.contains(&known) {
            published.push(known);
        }
        if !exposed.contains(&(port.private, transport)) {
            exposed.push((port.private, transport));
        }
    }
    let health = [ContainerHealth::Unhealthy, ContainerHealth::Healthy, ContainerHealth::Starting]
        .into_iter()
        .find(|health| wire.status.ends_with(&format!("{})", health.name())));
    let exit_code = wire.status.split_once('(').and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
    Ok(Container {
        id,
        node,
        name: name.unwrap_or_default().into(),
        image: wire.image,
        image_id: wire.image_id.parse().ok(),
        created: Timestamp::from_secs(wire.created),
        phase: Phase::parse(&wire.state).unwrap_or(Phase::Exited),
        exit_code: exit_code.unwrap_or(0),
        started: None,
        finished: None,
        health: health.unwrap_or(ContainerHealth::None),
        labels: wire.labels.iter().flatten().collect(),
        reserved: Resources::default(),
        published,
        exposed,
        network_mode: wire.host_config.unwrap_or_default().network_mode,
        networks: networks.collect(),
        mounts: wire.mounts.unwrap_or_default().into_iter().map(Mount::point).collect(),
        entry,
        fingerprint,
        listed: Some(wire.status),
    })
}

fn health(health: Option<&Health>) -> ContainerHealth {
    let known = [ContainerHealth::Starting, ContainerHealth::Healthy, ContainerHealth::Unhealthy];
    let found = health.and_then(|health| known.into_iter().find(|known| known.name() == health.status));
    found.unwrap_or(ContainerHealth::None)
}

/// What a container reserves: its limits, or what it asks for at least where it has no memory limit.
fn reserved(config: &HostConfig, labels: Option<&BTreeMap<Box<str>, Box<str>>>) -> Resources {
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    let memory = if config.memory > 0 { config.memory } else { config.memory_reservation };
    let nanos = match (config.nano_cpus, config.cpu_quota) {
        (nanos, _) if nanos > 0 => positive(nanos),
        (_, quota) if quota > 0 => {
            // Docker's default period, in microseconds.
            let period = if config.cpu_period > 0 { config.cpu_period } else { 100_000 };
            positive(quota).saturating_mul(1_000_000_000) / positive(period)
        }
        _ => 0,
    };
    let cpus = labels.and_then(|labels| labels.get(CPUS_LABEL)?.parse().ok()).unwrap_or(0);
    Resources { cpus: Cpus::from_nanos(nanos).max(Cpus::from_cores(cpus)), memory: ByteSize(positive(memory)) }
}

/// `80/tcp`, or `80`, which is the same.
fn container_port(text: &str) -> Option<(u16, Transport)> {
    let (port, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, Transport::parse(transport)?))
}

type Bindings = BTreeMap<String, Option<Vec<Binding>>>;

/// The host's ports that it has, and those it was given or asked for.
fn published(asked: Option<&Bindings>, has: Option<&Bindings>) -> Vec<PublishedPort> {
    let mut seen = BTreeSet::new();
    let mut ports = Vec::new();
    for (port, bindings) in [has, asked].into_iter().flatten().flatten() {
        let Some((container, transport)) = container_port(port) else {
            continue;
        };
        for binding in bindings.iter().flatten() {
            let address = binding.address.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
            let host = binding.port.parse::<u16>().ok().filter(|port| *port > 0);
            // A port that the engine was to choose is known by now, if the container runs.
            let chosen = host.is_none() && ports.iter().any(|known: &PublishedPort| known.container == container);
            if !chosen && seen.insert((address, host, container, transport)) {
                ports.push(PublishedPort { address, host, container, transport });
            }
        }
    }
    ports
}
