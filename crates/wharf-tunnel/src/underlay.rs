//! The UDP socket that the peers are reached through.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::outbox::{Message, Outbox};
use crate::sys::{self, MESSAGES_PER_CALL, Received};

/// How much may wait in the socket: what a gigabit link brings in 30 ms, while this process is not being run.
const SOCKET_BUFFER: i32 = 4 << 20;
/// The longest message that the kernel joins datagrams to.
const LONGEST_MESSAGE: usize = 65536;

/// The socket, for both IPv4 and IPv6 where the kernel has both.
#[derive(Debug)]
pub(crate) struct Underlay {
    socket: UdpSocket,
    is_dual: bool,
    /// Whether the network interface can cut messages; what goes to one that cannot is cut here.
    can_cut: AtomicBool,
}

/// Messages that came.
pub(crate) struct Inbox {
    buffer: Box<[u8]>,
    received: [Received; MESSAGES_PER_CALL],
    count: usize,
}

impl Underlay {
    /// Binds the port on all addresses of the current network namespace.
    pub(crate) fn bind(port: u16) -> io::Result<Underlay> {
        let dual = bind_dual(port);
        let is_dual = dual.is_ok();
        // A kernel without IPv6 has no such addresses; any other trouble shows again with IPv4.
        let socket = dual.or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?;
        for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            sys::set_option(socket.as_fd(), libc::SOL_SOCKET, forced, SOCKET_BUFFER)
                .or_else(|_| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, plain, SOCKET_BUFFER))?;
        }
        // As the kernel's own WireGuard: datagrams may be fragmented where a link turns out to be narrower.
        sys::set_option(socket.as_fd(), libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        if let Err(error) = sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1) {
            tracing::info!(%error, "the kernel does not join datagrams, so they are received one by one");
        }
        Ok(Underlay { socket, is_dual, can_cut: AtomicBool::new(true) })
    }

    /// Sends one datagram. A failure is like a loss on the way, which WireGuard copes with.
    pub(crate) fn send_one(&self, endpoint: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, self.outward(endpoint)) {
            tracing::debug!(%error, %endpoint, "a datagram could not be sent");
        }
    }

    /// Sends all that is in `outbox` and empties it. It waits while the socket's buffer is full.
    pub(crate) fn send_all(&self, outbox: &mut Outbox) {
        let (bytes, messages) = outbox.messages();
        let mut rest = messages;
        while let Some(first) = rest.first() {
            if !self.can_cut.load(Ordering::Relaxed) {
                self.send_singly(bytes, first);
                rest = &rest[1..];
                continue;
            }
            match sys::send(self.socket.as_fd(), bytes, rest) {
                Ok(sent) => rest = &rest[sent.max(1)..],
                Err(error) => {
                    match Errno::from_io_error(&error) {
                        Some(Errno::INTR) => continue,
                        // The interface computes no checksums, without which it cannot cut.
                        Some(Errno::IO) => {
                            tracing::info!("the underlay's interface does not cut messages, so they are cut before");
                            self.can_cut.store(false, Ordering::Relaxed);
                            continue;
                        }
                        // A link too narrow for one datagram: only single ones are fragmented.
                        Some(Errno::INVAL | Errno::MSGSIZE) if first.range.len() > first.segment => {
                            self.send_singly(bytes, first);
                        }
                        _ => tracing::debug!(%error, endpoint = %first.endpoint, "datagrams could not be sent"),
                    }
                    rest = &rest[1..];
                }
            }
        }
        outbox.clear();
    }

    fn send_singly(&self, bytes: &[u8], message: &Message) {
        for datagram in bytes[message.range.clone()].chunks(message.segment) {
            self.send_one(message.endpoint, datagram);
        }
    }

    /// Receives what is there, without waiting: `WouldBlock` if nothing is.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.count = 0;
        inbox.count = sys::receive(self.socket.as_fd(), &mut inbox.buffer, &mut inbox.received)?;
        Ok(())
    }

    /// An endpoint as this socket wants it: on one of IPv6, IPv4 addresses are mapped (RFC 4291 §2.5.5.2).
    pub(crate) fn outward(&self, endpoint: SocketAddr) -> SocketAddr {
        match endpoint.ip() {
            IpAddr::V4(address) if self.is_dual => SocketAddr::from((address.to_ipv6_mapped(), endpoint.port())),
            _ => endpoint,
        }
    }
}

impl AsFd for Underlay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that takes IPv6 and, whatever the system's default is, IPv4 too.
fn bind_dual(port: u16) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    Ok(UdpSocket::from(socket))
}

// === impl Inbox ===

impl Inbox {
    /// An empty one.
    pub(crate) fn new() -> Inbox {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Inbox {
            buffer: vec![0; LONGEST_MESSAGE * MESSAGES_PER_CALL].into_boxed_slice(),
            received: [Received { source: nobody, length: 0, segment: 1 }; MESSAGES_PER_CALL],
            count: 0,
        }
    }

    /// How many bytes one batch can have.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// The messages that came: whence, and their datagrams.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (SocketAddr, std::slice::Chunks<'_, u8>)> {
        let pieces = self.buffer.chunks_exact(LONGEST_MESSAGE);
        self.received[..self.count].iter().zip(pieces).map(|(received, piece)| {
            let source = SocketAddr::new(received.source.ip().to_canonical(), received.source.port());
            (source, piece[..received.length].chunks(received.segment))
        })
    }
}
