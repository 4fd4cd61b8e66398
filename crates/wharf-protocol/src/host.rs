//! What agents say of their hosts, and how they join.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An agent asks to be taken in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Join {
    /// The token's secret, as text.
    pub token: String,
    /// A request for a certificate, in PEM form. Only its key counts.
    pub request: String,
    /// What its engine says of itself: by this its node is known, where the token is not one node's.
    pub engine: String,
    /// The host's name.
    pub hostname: String,
    /// The host's addresses.
    pub addresses: Vec<IpAddr>,
}

/// It is taken in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// Its node's number.
    pub node: u32,
    /// Its certificate, in PEM form.
    pub certificate: String,
    /// The fleet's CA's certificate, in PEM form.
    pub ca: String,
}

/// An agent asks for its next certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renew {
    /// A request, in PEM form. Only its key counts.
    pub request: String,
}

/// Its next certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renewed {
    /// In PEM form.
    pub certificate: String,
}

/// What an agent has made of what it was told, and what it knows of its host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The number of the last [`crate::Update::Synced`] that the host agrees with.
    pub applied: u64,
    /// The agent's version.
    pub version: String,
    /// The host's address that tunnels lead to.
    pub underlay: Option<Ipv4Addr>,
    /// The largest packet of the interface that has it, in bytes.
    pub underlay_mtu: u32,
    /// The public half of its encrypted tunnel's key, in base64; empty if it has none.
    pub key: String,
    /// The host's own DNS servers.
    pub resolvers: Vec<IpAddr>,
    /// Where the host's own routes lead.
    pub routes: Vec<IpNet>,
    /// What waits for something that is not there yet, for people.
    pub waiting: Vec<String>,
    /// What could not be done, for people.
    pub problems: Vec<String>,
    /// The host's clock, in milliseconds since 1970.
    pub clock: u64,
}

/// The way to other nodes is to be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The answer bears it, too.
    pub id: u64,
    /// The nodes.
    pub nodes: std::collections::BTreeMap<u32, crate::Peer>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// That of the question.
    pub id: u64,
    /// One for each node.
    pub results: Vec<ProbeResult>,
}

/// The way to one other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The node.
    pub node: u32,
    /// The way to the host itself: microseconds there and back; `None` if no answer came.
    pub underlay: Option<u64>,
    /// The way through the tunnel: microseconds there and back.
    pub tunnel: Option<u64>,
    /// The way through the tunnel of packets as large as networks have them.
    pub tunnel_full: Option<u64>,
}
