//! Joins the packets of one TCP connection that follow each other into one piece for the kernel, under the rules of Linux'
//! own generic receive offload: what is joined can be cut again into just the packets that came, but for the identification
//! of IPv4 packets that are not to be fragmented, which means nothing (RFC 6864 §4.1). The payloads stay where they are; what
//! comes out is a list of where the parts lie.

use std::io::{self, IoSlice};
use std::ops::Range;

use crate::ip::{self, Ip};
use crate::segment::TCP_HEADER;
use crate::vnet;

/// How many packets are joined at most: what 64 KiB at the usual MTU hold, several times. The kernel takes 1,024 parts.
pub(crate) const MAXIMUM_PARTS: usize = 256;
/// How many of the latest pieces are looked at for one of the same connection; more would cost time for each packet when
/// many connections share the tunnel.
const LOOK_BACK: usize = 16;
/// The longest IPv4 packet. IPv6's could be 40 bytes longer, which is not worth a limit of its own.
const LONGEST_PACKET: usize = 65535;

/// TCP's flags.
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// The addresses of IPv6 and the ports of TCP.
const LONGEST_ADDRESSES_AND_PORTS: usize = 32 + 4;

/// The packets of one batch, in the pieces that they are joined to.
#[derive(Debug, Default)]
pub(crate) struct Coalescer {
    pieces: Vec<Piece>,
    /// The packets that joined a piece, as a list in an array: what each has of payload, and which follows.
    joined: Vec<Joined>,
}

#[derive(Debug)]
struct Joined {
    payload: Range<usize>,
    next: Option<usize>,
}

#[derive(Debug)]
struct Piece {
    /// The first packet, with its headers.
    first: Range<usize>,
    /// `None` if it is not of a kind that is joined.
    tcp: Option<Tcp>,
    /// The list of those that joined it.
    others: Option<(usize, usize)>,
    count: usize,
}

/// What is known of a piece of TCP data.
#[derive(Debug, Clone, Copy)]
struct Tcp {
    connection: Connection,
    /// Both headers together.
    header: usize,
    /// The payload of the first packet, and of all but the last.
    size: usize,
    next_sequence: u32,
    /// All headers and payloads.
    total: usize,
    /// The last one said PSH, or was shorter, or there can be no more.
    is_closed: bool,
    is_pushed: bool,
}

/// Whose data it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    ip: Ip,
    /// With zeros at the end, where IP's addresses are shorter.
    addresses_and_ports: [u8; LONGEST_ADDRESSES_AND_PORTS],
}

impl Coalescer {
    /// Forgets the last batch.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.joined.clear();
    }

    /// Takes the next packet of a batch, an IP packet that lies at `range` of `arena`.
    pub(crate) fn push(&mut self, arena: &[u8], range: Range<usize>) {
        let tcp = Tcp::parse(&arena[range.clone()]);
        let Some(packet) = tcp else {
            // A packet of a connection that cannot be joined (a bare acknowledgement, say) must not be overtaken.
            if let Some(connection) = Connection::of(&arena[range.clone()])
                && let Some(tcp) = self.latest(connection).and_then(|piece| piece.tcp.as_mut())
            {
                tcp.is_closed = true;
            }
            self.pieces.push(Piece { first: range, tcp: None, others: None, count: 1 });
            return;
        };
        let index = self.joined.len();
        let Some(piece) = self.latest(packet.connection).filter(|piece| piece.takes(arena, &packet, &range)) else {
            self.pieces.push(Piece { first: range, tcp, others: None, count: 1 });
            return;
        };
        let last = piece.add(&packet, index);
        if let Some(last) = last {
            self.joined[last].next = Some(index);
        }
        self.joined.push(Joined { payload: range.start + packet.header..range.end, next: None });
    }

    /// The latest piece of a connection, among the last few.
    fn latest(&mut self, connection: Connection) -> Option<&mut Piece> {
        let mut recent = self.pieces.iter_mut().rev().take(LOOK_BACK);
        recent.find(|piece| piece.tcp.is_some_and(|tcp| tcp.connection == connection))
    }

    /// Gives the pieces in order to `write`, each as the parts that make it up, with the header for the kernel first. A
    /// piece that `write` fails on is lost, as packets are; the first error is returned.
    pub(crate) fn write_all(
        &self,
        arena: &mut [u8],
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        for piece in &self.pieces {
            let outcome = match (piece.tcp, piece.others) {
                (Some(tcp), Some((first, _))) => {
                    let header = tcp.finish(&mut arena[piece.first.clone()]);
                    let mut parts = [IoSlice::new(&[]); MAXIMUM_PARTS + 1];
                    parts[0] = IoSlice::new(&header);
                    parts[1] = IoSlice::new(&arena[piece.first.clone()]);
                    let mut next = Some(first);
                    let mut count = 2;
                    while let Some(index) = next {
                        parts[count] = IoSlice::new(&arena[self.joined[index].payload.clone()]);
                        next = self.joined[index].next;
                        count += 1;
                    }
                    write(&parts[..count])
                }
                _ => write(&[IoSlice::new(&vnet::PLAIN), IoSlice::new(&arena[piece.first.clone()])]),
            };
            result = result.and(outcome);
        }
        result
    }
}

impl Piece {
    /// Whether a packet can join.
    fn takes(&self, arena: &[u8], packet: &Tcp, range: &Range<usize>) -> bool {
        let Some(tcp) = self.tcp else { return false };
        if tcp.is_closed
            || self.count == MAXIMUM_PARTS
            || packet.header != tcp.header
            || packet.sequence() != tcp.next_sequence
            || packet.size > tcp.size
            || tcp.total + packet.size > LONGEST_PACKET
        {
            return false;
        }
        let (ours, theirs) = (&arena[self.first.clone()], &arena[range.clone()]);
        let Connection { ip, .. } = tcp.connection;
        let (our_tcp, their_tcp) = (&ours[ip.plain_header()..tcp.header], &theirs[ip.plain_header()..tcp.header]);
        // The acknowledgement, window and options.
        ip.is_cut_alike(ours, theirs, self.count)
            && our_tcp[8..13] == their_tcp[8..13]
            && our_tcp[14..16] == their_tcp[14..16]
            && our_tcp[TCP_HEADER..] == their_tcp[TCP_HEADER..]
    }

    /// Adds a packet that can join, as number `index` of the joined ones; returns the one that it follows.
    fn add(&mut self, packet: &Tcp, index: usize) -> Option<usize> {
        let tcp = self.tcp.as_mut().expect("only what takes a packet is given one");
        tcp.next_sequence = packet.next_sequence;
        tcp.total += packet.size;
        tcp.is_pushed = packet.is_pushed;
        tcp.is_closed = packet.is_closed || packet.size < tcp.size;
        self.count += 1;
        let last = self.others.map(|(_, last)| last);
        self.others = Some((self.others.map_or(index, |(first, _)| first), index));
        last
    }
}

impl Tcp {
    /// Reads a packet; `None` if it is of a kind that is never joined, or damaged.
    fn parse(packet: &[u8]) -> Option<Tcp> {
        let connection = Connection::of(packet)?;
        let ip = connection.ip;
        let (_, segment) = packet.split_at(ip.plain_header());
        let flags = segment[13];
        let header = ip.plain_header() + usize::from(segment[12] >> 4) * 4;
        let is_whole =
            header >= ip.plain_header() + TCP_HEADER && ip.length(packet) == packet.len() && packet.len() > header;
        if !is_whole || flags & !PSH != ACK {
            return None;
        }
        // The kernel takes what is joined as checked.
        let is_intact = ip.has_whole_header(packet)
            && ip.pseudo_header(packet, ip::TCP, segment.len() as u16).add(segment).is_whole();
        let size = packet.len() - header;
        let sequence = u32::from_be_bytes(segment[4..8].try_into().expect("the slice has four bytes"));
        is_intact.then_some(Tcp {
            connection,
            header,
            size,
            next_sequence: sequence.wrapping_add(size as u32),
            total: packet.len(),
            is_closed: flags & PSH != 0,
            is_pushed: flags & PSH != 0,
        })
    }

    fn sequence(&self) -> u32 {
        self.next_sequence.wrapping_sub(self.size as u32)
    }

    /// Makes the headers of the first packet those of the whole piece, and returns the header for the kernel.
    fn finish(&self, packet: &mut [u8]) -> [u8; vnet::LENGTH] {
        let ip = self.connection.ip;
        ip.finish_header(packet, self.total, 0);
        // The kernel adds the sum over the rest, if anybody asks for it.
        let sum = ip.pseudo_header(packet, ip::TCP, (self.total - ip.plain_header()) as u16).fold();
        let (_, segment) = packet.split_at_mut(ip.plain_header());
        if self.is_pushed {
            segment[13] |= PSH;
        }
        segment[16..18].copy_from_slice(&sum);
        vnet::joined_tcp(ip, self.header as u16, self.size as u16)
    }
}

impl Connection {
    /// That of a TCP packet without IP options that is no fragment.
    fn of(packet: &[u8]) -> Option<Connection> {
        let ip = Ip::of(packet)?;
        if packet.len() < ip.plain_header() + TCP_HEADER || !ip.plainly_carries(packet, ip::TCP) {
            return None;
        }
        // The ports come right after the addresses.
        let range = ip.addresses().start..ip.plain_header() + 4;
        let mut addresses_and_ports = [0; LONGEST_ADDRESSES_AND_PORTS];
        addresses_and_ports[..range.len()].copy_from_slice(&packet[range]);
        Some(Connection { ip, addresses_and_ports })
    }
}

#[cfg(test)]
mod tests;
