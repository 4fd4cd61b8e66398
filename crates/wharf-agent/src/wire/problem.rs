//! What a converge did, what it waits for, and what stands in its way.

use std::io;

use ipnet::IpNet;

/// What one converge came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What was changed, one short text per change.
    pub done: Vec<String>,
    /// What cannot be done yet, and will be once the thing that the text names is there.
    pub waiting: Vec<String>,
    /// What failed or contradicts the wish, and needs somebody to look.
    pub problems: Vec<Problem>,
}

impl Report {
    /// How many changes were made; 0 says that the kernel was right before.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.done.len()
    }
}

/// Something that keeps the kernel from looking as wished: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The wish contradicts itself.
    #[error("network {network} was left out: {why}; the fleet's records need mending")]
    InvalidNetwork {
        /// The network's id.
        network: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no interface can have.
    #[error("`{name}` is no interface name: DNS is not let in from it; correct the wish")]
    InvalidInterface {
        /// The name as given.
        name: String,
    },
    /// A slice lies on a node that the wish does not know.
    #[error("network {network}: slice {slice} is on node number {peer}, which is not among the peers; it has no route")]
    UnknownPeer {
        /// The network's id.
        network: String,
        /// The slice without a route.
        slice: IpNet,
        /// The number that names no peer.
        peer: u32,
    },
    /// This kernel cannot make VXLAN devices.
    #[error(
        "the kernel has no VXLAN: load or install the kernel module `vxlan`; nothing reaches other nodes until then"
    )]
    NoVxlan,
    /// The port or the network identifier of the tunnel is taken.
    #[error(
        "UDP port {port} is in use by {user}: wharf0 cannot be brought up; free the port or give the fleet another one"
    )]
    PortInUse {
        /// The UDP port.
        port: u16,
        /// The device, or "another program".
        user: String,
    },
    /// Another route has the destination that ours needs.
    #[error(
        "network {network}: route {route} on {device} is not ours and in the way of {slice}; remove it, or move the network"
    )]
    ForeignRoute {
        /// The network's id.
        network: String,
        /// The slice that is not (wholly) reached.
        slice: IpNet,
        /// The destination of the foreign route.
        route: IpNet,
        /// Its device, or "no device".
        device: String,
    },
    /// The kernel does not forward packets at all.
    #[error("{setting} is 0: no packet leaves a container's bridge; set it to 1 (an engine does so)")]
    ForwardingOff {
        /// The kernel's setting.
        setting: &'static str,
    },
    /// There is no program to set filter rules with.
    #[error("no iptables program on this host: networks are not kept apart; install the package `iptables`")]
    NoFilterProgram,
    /// A run of the filter program failed.
    #[error("{program}: {message}; table `{table}` is not as wished")]
    Filter {
        /// The program as called.
        program: String,
        /// The table it was to read or change.
        table: &'static str,
        /// What it said.
        message: String,
    },
    /// The kernel refused one step.
    #[error("could not {step}: {source}")]
    Refused {
        /// What was to be done.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's state could not be read.
    #[error("could not read {what}: {source}; nothing that depends on it was changed")]
    Unreadable {
        /// What was to be read.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why the kernel cannot be talked to at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No netlink socket could be had.
    #[error("could not open a netlink socket")]
    Socket(#[source] io::Error),
    /// The host's root folder is not there.
    #[error("the host's root folder {0} is no folder")]
    NoRoot(String),
    /// A question to the kernel failed.
    #[error("could not read {0}")]
    Ask(&'static str, #[source] io::Error),
    /// The node has no IPv4 address to reach others from.
    #[error("no IPv4 route leads out of this host: it has no address that other nodes could reach")]
    NoUnderlay,
}

/// The kernel's error number behind a netlink error, as the standard library's error.
pub(crate) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
