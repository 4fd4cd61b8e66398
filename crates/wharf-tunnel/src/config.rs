//! What a tunnel is told, and what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::key::{PublicKey, SecretKey};

/// What a tunnel needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The device's name, at most 15 bytes.
    pub device: String,
    /// The largest packet inside the tunnel, in bytes: the underlay's MTU less 60 (IPv4) or 80 (IPv6).
    pub mtu: u32,
    /// This node's identity.
    pub key: SecretKey,
    /// The UDP port that the peers send to.
    pub port: u16,
    /// Who carries the packets.
    pub kernel: Kernel,
}

/// Whether the kernel's own WireGuard may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// Where the kernel has it; this process, where not.
    #[default]
    Auto,
    /// This process carries the packets in any case.
    Never,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub key: PublicKey,
    /// Where it was last known to be. A packet that it sent from elsewhere, and that proves to be its own, changes that.
    pub endpoint: SocketAddr,
    /// What it may send from, and what is sent to it; of overlapping prefixes the longest counts, of two equal ones
    /// that of the later peer.
    pub allowed: Vec<IpNet>,
}

/// How a peer is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its identity.
    pub key: PublicKey,
    /// Where it is: what was configured, or whence its last packet came.
    pub endpoint: SocketAddr,
    /// How long ago both sides last agreed on keys; `None` if there are none to send with.
    pub last_handshake: Option<Duration>,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
}
