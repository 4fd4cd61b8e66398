//! From the peers to the TUN device.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn, TunnResult};

use super::{LONGEST_HANDSHAKE_MESSAGE, Shared};
use crate::coalesce::Coalescer;
use crate::key::PublicKey;
use crate::peers::{Link, Node, Peers};
use crate::underlay::Inbox;

/// The longest datagram that answers another: a packet that waited for the handshake.
const LONGEST_ANSWER: usize = 65536 + LONGEST_HANDSHAKE_MESSAGE;
/// The first byte of a cookie reply (WireGuard paper §5.4.7).
const COOKIE_REPLY: u8 = 3;

/// Runs until the tunnel stops.
pub(super) fn run(shared: &Shared) {
    let mut inbox = Inbox::new();
    let mut opened = Opened {
        bytes: vec![0; inbox.capacity() + LONGEST_HANDSHAKE_MESSAGE].into_boxed_slice(),
        used: 0,
        coalescer: Coalescer::default(),
    };
    let mut answer = vec![0; LONGEST_ANSWER].into_boxed_slice();
    loop {
        if let Err(error) = shared.underlay.receive(&mut inbox) {
            if error.kind() != io::ErrorKind::WouldBlock {
                tracing::debug!(%error, "nothing can be received from the peers");
            }
            if !shared.wait(&shared.underlay) {
                return;
            }
            continue;
        }
        let peers = shared.peers();
        let mut batch = Batch { shared, peers: &peers, opened: &mut opened, answer: &mut answer };
        for (source, datagrams) in inbox.messages() {
            batch.message(source, datagrams);
        }
        if let Err(error) = opened.write_all(shared) {
            tracing::debug!(%error, "packets could not be given to the kernel");
        }
    }
}

/// The packets of one batch, decrypted.
struct Opened {
    bytes: Box<[u8]>,
    used: usize,
    coalescer: Coalescer,
}

impl Opened {
    /// Gives all of them to the kernel and forgets them.
    fn write_all(&mut self, shared: &Shared) -> io::Result<()> {
        let result = self.coalescer.write_all(&mut self.bytes, |parts| shared.tun.write(parts));
        self.used = 0;
        self.coalescer.clear();
        result
    }
}

/// What is at hand while a batch is worked through.
struct Batch<'a> {
    shared: &'a Shared,
    peers: &'a Peers,
    opened: &'a mut Opened,
    answer: &'a mut [u8],
}

impl Batch<'_> {
    /// Takes the datagrams of one message. Those of one session are opened under one lock.
    fn message<'d>(&mut self, source: SocketAddr, datagrams: impl Iterator<Item = &'d [u8]>) {
        let mut datagrams = datagrams.peekable();
        while let Some(datagram) = datagrams.next() {
            let Some(session) = session_of_data(datagram) else {
                self.handshake(source, datagram);
                continue;
            };
            let Some(node) = self.peers.by_session(session) else { continue };
            let mut link = node.link.lock();
            let mut sender = Sender { node, source, address: None };
            let mut is_alive = self.data(&mut sender, &mut link, datagram);
            while let Some(next) = datagrams.next_if(|next| session_of_data(next) == Some(session)) {
                is_alive |= self.data(&mut sender, &mut link, next);
            }
            if is_alive {
                link.endpoint = source;
                // If they are the first of a new session, packets may have waited for it.
                self.send_waiting(&mut link, source);
            }
        }
    }

    /// Opens a packet of data; whether it was authentic.
    fn data(&mut self, sender: &mut Sender<'_>, link: &mut Link, datagram: &[u8]) -> bool {
        let start = self.opened.used;
        let free = &mut self.opened.bytes[start..];
        let (length, address) = match link.tunn.decapsulate(Some(sender.source.ip()), datagram, free) {
            TunnResult::WriteToTunnelV4(packet, address) => (packet.len(), IpAddr::V4(address)),
            TunnResult::WriteToTunnelV6(packet, address) => (packet.len(), IpAddr::V6(address)),
            // A sign of life.
            TunnResult::Done | TunnResult::WriteToNetwork(_) => return true,
            TunnResult::Err(error) => {
                tracing::debug!(peer = %sender.node.key, ?error, "a packet was malformed, not authentic, or came before");
                return false;
            }
        };
        if sender.may_send_from(address, self.peers) {
            self.opened.used = start + length;
            self.opened.coalescer.push(&self.opened.bytes, start..start + length);
        } else {
            tracing::debug!(peer = %sender.node.key, %address, "a peer sent from an address that is not its own");
        }
        true
    }

    /// Takes any other message.
    fn handshake(&mut self, source: SocketAddr, datagram: &[u8]) {
        let mut cookie = [0; LONGEST_HANDSHAKE_MESSAGE];
        let packet = match self.shared.limiter.verify_packet(Some(source.ip()), datagram, &mut cookie) {
            Ok(packet) => packet,
            // Too many come: the sender is to show that it receives what is sent to its address.
            Err(TunnResult::WriteToNetwork(cookie)) => return self.shared.underlay.send_one(source, cookie),
            Err(_) => return,
        };
        let node = match &packet {
            Packet::HandshakeInit(init) => {
                let opened = parse_handshake_anon(self.shared.secret.as_dalek(), &self.shared.public, init);
                opened.ok().and_then(|opened| self.peers.by_key(PublicKey::from_bytes(opened.peer_static_public)))
            }
            Packet::HandshakeResponse(response) => self.peers.by_session(response.receiver_idx),
            Packet::PacketCookieReply(reply) => self.peers.by_session(reply.receiver_idx),
            Packet::PacketData(_) => None,
        };
        let Some(node) = node else { return };
        let mut link = node.link.lock();
        match link.tunn.decapsulate(Some(source.ip()), datagram, self.answer) {
            TunnResult::WriteToNetwork(answer) => {
                self.shared.underlay.send_one(source, answer);
                // A cookie reply answers what is not proved to be the peer's.
                if answer.first() == Some(&COOKIE_REPLY) {
                    return;
                }
                link.endpoint = source;
                // After a response the session can be used at once.
                if matches!(packet, Packet::HandshakeResponse(_)) {
                    self.send_waiting(&mut link, source);
                }
            }
            TunnResult::Err(error) => tracing::debug!(peer = %node.key, ?error, "a handshake failed"),
            _ => {}
        }
    }

    /// Sends the packets that waited for a session.
    fn send_waiting(&mut self, link: &mut Link, endpoint: SocketAddr) {
        while let TunnResult::WriteToNetwork(datagram) = link.tunn.decapsulate(None, &[], self.answer) {
            self.shared.underlay.send_one(endpoint, datagram);
        }
    }
}

/// Who sent a run of packets.
struct Sender<'a> {
    node: &'a Arc<Node>,
    source: SocketAddr,
    /// The address that the last packet came from, which was allowed.
    address: Option<IpAddr>,
}

impl Sender<'_> {
    /// Whether a packet from `address` is what this peer may send.
    fn may_send_from(&mut self, address: IpAddr, peers: &Peers) -> bool {
        if self.address == Some(address) {
            return true;
        }
        let is_allowed = peers.by_address(address).is_some_and(|node| Arc::ptr_eq(node, self.node));
        if is_allowed {
            self.address = Some(address);
        }
        is_allowed
    }
}

/// The number of the session that a packet of data is for; `None` for any other message.
fn session_of_data(datagram: &[u8]) -> Option<u32> {
    match Tunn::parse_incoming_packet(datagram) {
        Ok(Packet::PacketData(data)) => Some(data.receiver_idx),
        _ => None,
    }
}
