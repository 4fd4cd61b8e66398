use std::net::IpAddr;

use crate::{ContainerId, ImageId, Labels, NetworkId, NodeId, Resources, Timestamp};

/// The end of [`Container::entry`], after the value of `Status`.
pub const ENTRY_END: &str = "\"}";

/// A container as its engine last described it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Where it is.
    pub node: NodeId,
    /// Its name, without the leading slash.
    pub name: Box<str>,
    /// The image as the user named it at creation.
    pub image: Box<str>,
    /// The image it was made of; `None` where the engine gives no such id.
    pub image_id: Option<ImageId>,
    /// When it was created.
    pub created: Timestamp,
    /// What it does now.
    pub phase: Phase,
    /// How its last run ended; 0 before the first.
    pub exit_code: i64,
    /// When its last run began.
    pub started: Option<Timestamp>,
    /// When its last run ended.
    pub finished: Option<Timestamp>,
    /// What its health check says.
    pub health: ContainerHealth,
    /// Its labels.
    pub labels: Labels,
    /// What it reserves while it runs.
    pub reserved: Resources,
    /// Ports of its host that it publishes, whether it runs or not.
    pub published: Vec<PublishedPort>,
    /// Ports that it exposes, as `PORT` and transport; published or not.
    pub exposed: Vec<(u16, Transport)>,
    /// Its network mode's value in `HostConfig` (`bridge`, `host`, `none`, a network, `container:ID`).
    pub network_mode: Box<str>,
    /// The networks that it is attached to.
    pub networks: Vec<Attachment>,
    /// What is mounted in it.
    pub mounts: Vec<MountPoint>,
    /// Its entry of `GET /containers/json` as JSON text, up to the value of `Status`: that changes as time goes by. What
    /// follows it is [`ENTRY_END`].
    pub entry: Box<str>,
    /// Changes with what its engine's list says of it, but for its status.
    pub fingerprint: u64,
    /// What its engine's list says of its status, while it has only been listed: what it reserves, and its exact times, are
    /// not known before it has been inspected. `None` from then on.
    pub listed: Option<Box<str>>,
}

impl Container {
    /// Whether all of it is known.
    pub fn is_inspected(&self) -> bool {
        self.listed.is_none()
    }

    /// Ports of its host that it takes: those it publishes, and those it exposes if it has no network of its own.
    pub fn host_ports(&self) -> impl Iterator<Item = PublishedPort> {
        let exposed = if &*self.network_mode == "host" { &self.exposed[..] } else { &[] };
        let on_host = exposed.iter().map(|(port, transport)| PublishedPort::on_host(*port, *transport));
        self.published.iter().copied().chain(on_host)
    }
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Never started.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended, and about to be started again by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed.
    Dead,
}

impl Phase {
    /// Every phase with its name in Docker's API.
    pub const NAMES: [(Phase, &str); 7] = [
        (Self::Created, "created"),
        (Self::Running, "running"),
        (Self::Paused, "paused"),
        (Self::Restarting, "restarting"),
        (Self::Removing, "removing"),
        (Self::Exited, "exited"),
        (Self::Dead, "dead"),
    ];

    /// Its number: its place among the phases.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Its name in Docker's API (`State` of `GET /containers/json`).
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(phase, _)| *phase == self).map_or("", |(_, name)| name)
    }

    /// The phase of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(phase, _)| *phase)
    }

    /// Whether its processes exist: running, paused or between two runs. Such containers are listed without `--all`.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether it takes room on its node: it is up, or has been created to be started soon. What has ended does not.
    pub fn takes_room(self) -> bool {
        self.is_up() || self == Self::Created
    }
}

/// What a container's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerHealth {
    /// It has none.
    None,
    /// Not known yet.
    Starting,
    /// Well.
    Healthy,
    /// Not well.
    Unhealthy,
}

impl ContainerHealth {
    /// Its name in Docker's API (`State.Health.Status`).
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What carries a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// Its name in Docker's API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The transport of that name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

/// A port of the host that leads into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublishedPort {
    /// The host address it is bound to; `None` for all of them.
    pub address: Option<IpAddr>,
    /// The host's port; `None` where the engine is to choose one.
    pub host: Option<u16>,
    /// The container's port.
    pub container: u16,
    /// What carries it.
    pub transport: Transport,
}

impl PublishedPort {
    /// The port of a container that has no network of its own: it is the host's.
    pub fn on_host(port: u16, transport: Transport) -> Self {
        Self { address: None, host: Some(port), container: port, transport }
    }

    /// Whether this and another port of the same host cannot both be had.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let address = self.address.is_none() || other.address.is_none() || self.address == other.address;
        self.host.is_some() && self.host == other.host && self.transport == other.transport && address
    }
}

/// Host ports of which a container wants any one: `-p 8000-8010:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The host address it is to be bound to; `None` for all of them.
    pub address: Option<IpAddr>,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// What carries it.
    pub transport: Transport,
}

impl PortRange {
    /// Each of its ports.
    pub fn ports(&self) -> impl Iterator<Item = PublishedPort> {
        let (address, transport) = (self.address, self.transport);
        (self.first..=self.last).map(move |port| PublishedPort { address, ..PublishedPort::on_host(port, transport) })
    }
}

/// A network that a container is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name on its engine.
    pub name: Box<str>,
    /// The network's id on its engine; `None` until the container has been started on it once.
    pub id: Option<NetworkId>,
    /// Its address: the one it has, or the one that it is to have when it starts.
    pub address: Option<IpAddr>,
    /// What it has of its own on a fleet network; `None` on others, and until it has been inspected.
    pub fleet: Option<Box<FleetEndpoint>>,
}

/// What a container has of its own on a fleet network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetEndpoint {
    /// The engine's id of the endpoint; empty while the container does not run.
    pub id: Box<str>,
    /// Its hardware address; empty while the container does not run.
    pub mac: Box<str>,
    /// Further names that the network's containers know it by.
    pub aliases: Vec<Box<str>>,
    /// What it calls others, and nobody else does: a container's name or id, and the alias.
    pub links: Vec<(Box<str>, Box<str>)>,
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The volume's name; `None` for a bind mount and the like.
    pub volume: Option<Box<str>>,
    /// The host's path.
    pub source: Box<str>,
    /// The path in the container.
    pub destination: Box<str>,
}

/// Whose namespace a container joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceMode<'a> {
    /// Another container's, by name or id.
    Container(&'a str),
    /// Anything else: its own, the host's, a network's.
    Other(&'a str),
}

impl<'a> NamespaceMode<'a> {
    /// Reads `NetworkMode`, `IpcMode` or `PidMode` of a `HostConfig`.
    pub fn parse(mode: &'a str) -> Self {
        mode.strip_prefix("container:").map_or(Self::Other(mode), Self::Container)
    }
}
