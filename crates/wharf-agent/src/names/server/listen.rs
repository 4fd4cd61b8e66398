//! The sockets that are listened on: exactly those of the wanted addresses, as far as they can be had.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Core, Transport, tcp, udp};

/// After how long a socket that could not be had is tried for again: at first soon, since our own of a moment ago may be
/// what is in the way.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two tries: as long as people wait after they have stopped another DNS server.
pub(super) const RETRY_MOST: Duration = Duration::from_secs(5);

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

#[derive(Debug)]
pub(super) struct Listeners {
    port: u16,
    wanted: BTreeMap<(IpAddr, Transport), State>,
}

#[derive(Debug)]
enum State {
    /// Ends the socket's task when dropped.
    Bound {
        _guard: DropGuard,
    },
    Missing(Option<Problem>),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(
        "port {port} ({transport}) is taken by another DNS server of this host: let it listen on its own addresses only \
         (dnsmasq: bind-dynamic with except-interface; named: listen-on; unbound: interface), or stop it"
    )]
    Taken { port: u16, transport: &'static str },
    #[error("port {port} ({transport}) may not be used: run the agent as root, or give it CAP_NET_BIND_SERVICE")]
    Forbidden { port: u16, transport: &'static str },
    #[error("cannot listen on port {port} ({transport}): {error}")]
    Other { port: u16, transport: &'static str, error: io::Error },
}

// === impl Listeners ===

impl Listeners {
    pub(super) fn new(port: u16) -> Self {
        Self { port, wanted: BTreeMap::new() }
    }

    /// Closes what is not wanted any more, and opens what is wanted now.
    pub(super) fn want(&mut self, addresses: BTreeSet<IpAddr>, core: &Arc<Core>) {
        self.wanted.retain(|(address, _), _| addresses.contains(address));
        for address in addresses {
            for transport in [Transport::Udp, Transport::Tcp] {
                self.wanted.entry((address, transport)).or_insert(State::Missing(None));
            }
        }
        self.bind_missing(core);
    }

    /// Tries for every socket that is not there.
    pub(super) fn bind_missing(&mut self, core: &Arc<Core>) {
        for ((address, transport), state) in &mut self.wanted {
            if let State::Missing(_) = state {
                *state = match open(SocketAddr::new(*address, self.port), *transport, core) {
                    Ok(guard) => State::Bound { _guard: guard },
                    Err(error) => State::Missing(Some(Problem::new(self.port, *transport, error))),
                };
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.wanted.values().all(|state| matches!(state, State::Bound { .. }))
    }

    pub(super) fn problems(&self) -> BTreeMap<IpAddr, String> {
        let mut problems = BTreeMap::<IpAddr, String>::new();
        for ((address, _), state) in &self.wanted {
            let State::Missing(Some(problem)) = state else { continue };
            let text = problems.entry(*address).or_default();
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&problem.to_string());
        }
        problems
    }
}

// === impl Problem ===

impl Problem {
    fn new(port: u16, transport: Transport, error: io::Error) -> Self {
        let transport = match transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        };
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { port, transport },
            io::ErrorKind::PermissionDenied => Self::Forbidden { port, transport },
            _ => Self::Other { port, transport, error },
        }
    }
}

/// Opens a socket and serves it until the guard is dropped or the server stops.
fn open(address: SocketAddr, transport: Transport, core: &Arc<Core>) -> io::Result<DropGuard> {
    let closed = CancellationToken::child_token(&core.stopped);
    match transport {
        Transport::Udp => {
            let socket = UdpSocket::from_std(bound(address, SocketType::DGRAM)?.into())?;
            core.tasks.spawn(closed.clone().run_until_cancelled_owned(udp::serve(core.clone(), socket)));
        }
        Transport::Tcp => {
            let socket = bound(address, SocketType::STREAM)?;
            listen(&socket, BACKLOG)?;
            let listener = TcpListener::from_std(socket.into())?;
            let serving = tcp::serve(core.clone(), listener, closed.clone());
            core.tasks.spawn(closed.clone().run_until_cancelled_owned(serving));
        }
    }
    Ok(closed.drop_guard())
}

fn bound(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match address {
        SocketAddr::V4(_) => {
            let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
            sockopt::set_ip_freebind(&socket, true)?;
            socket
        }
        SocketAddr::V6(_) => {
            let socket = socket_with(AddressFamily::INET6, kind, flags, None)?;
            sockopt::set_ipv6_freebind(&socket, true)?;
            sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    if kind == SocketType::STREAM {
        // Connections of the server before us may linger. For UDP the same option would let two servers share a port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}
