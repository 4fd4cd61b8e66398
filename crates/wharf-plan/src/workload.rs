use std::collections::BTreeSet;

use wharf_model::{ApiVersion, Labels, NodeId, PortRange, PublishedPort, Resources, Transport};

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
    /// Ranges of its host's ports of which it publishes one each.
    pub ranges: Vec<PortRange>,
    /// Ports that it takes on its host because it has no network of its own.
    pub host_ports: Vec<(u16, Transport)>,
    /// Its labels.
    pub labels: Labels,
    /// What is asked of the node.
    pub constraints: Vec<Expression>,
    /// What is asked of the containers and images that the node has.
    pub affinities: Vec<Expression>,
    /// The names of the only nodes that may have it; every list has to have the node.
    pub whitelists: Vec<BTreeSet<Box<str>>>,
    /// What its image runs on; `None` where that makes no difference.
    pub platform: Option<Platform>,
    /// The oldest API that knows all that it asks for, and what asks for it.
    pub api: Option<(ApiVersion, &'static str)>,
    /// Where it has to be because of what it depends on.
    pub requirements: Vec<Requirement>,
    /// The fleet networks that it is to be on, by name.
    pub networks: Vec<Box<str>>,
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

/// What an image runs on, in the registries' words: `linux`, `amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system; empty for any.
    pub os: Box<str>,
    /// The processor's architecture; empty for any.
    pub architecture: Box<str>,
}

impl Platform {
    /// Reads `OS`, `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`; kernels' names of architectures are taken, too.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('/').map(str::to_ascii_lowercase);
        let os = parts.next().unwrap_or_default();
        Self { os: os.into(), architecture: architecture(&parts.next().unwrap_or_default()).into() }
    }

    /// Whether a host of this operating system and architecture runs it.
    pub fn runs_on(&self, os: &str, host: &str) -> bool {
        let fits = |wanted: &str, has: &str| wanted.is_empty() || has.is_empty() || wanted == has;
        let host = architecture(host);
        // What was made for the 32-bit elder runs on its 64-bit heir.
        let elder = matches!((&*self.architecture, host), ("386", "amd64") | ("arm", "arm64"));
        fits(&self.os, os) && (elder || fits(&self.architecture, host))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.architecture {
            "" => f.write_str(&self.os),
            architecture => write!(f, "{}/{architecture}", self.os),
        }
    }
}

/// An architecture's name in registries, of what `uname -m` calls it.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armhf" | "armv6l" | "armv7l" => "arm",
        name => name,
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
