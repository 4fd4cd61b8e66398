//! Joins the packets of one TCP connection that follow each other into one piece for the kernel, under the rules of Linux'
//! own generic receive offload: what is joined can be cut again into just the packets that came, but for the identification
//! of packets that are not to be fragmented, which means nothing (RFC 6864 §4.1). The payloads stay where they are; what
//! comes out is a list of where the parts lie.

use std::io::{self, IoSlice};
use std::ops::Range;

use crate::checksum::{Sum, pseudo_header};
use crate::segment::{IP_HEADER, PROTOCOL_TCP, TCP_HEADER, write_ip_checksum};
use crate::vnet;

/// How many packets are joined at most: what 64 KiB at the usual MTU hold, several times. The kernel takes 1,024 parts.
pub(crate) const MAXIMUM_PARTS: usize = 256;
/// How many of the latest pieces are looked at for one of the same connection; more would cost time for each packet when
/// many connections share the tunnel.
const LOOK_BACK: usize = 16;
/// The longest IPv4 packet.
const LONGEST_PACKET: usize = 65535;

/// TCP's flags.
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// IPv4's flag "don't fragment", in the upper byte of its field.
const DONT_FRAGMENT: u8 = 0x40;

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
    addresses_and_ports: [u8; 12],
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

impl Coalescer {
    /// Forgets the last batch.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.joined.clear();
    }

    /// Takes the next packet of a batch, an IPv4 packet that lies at `range` of `arena`.
    pub(crate) fn push(&mut self, arena: &[u8], range: Range<usize>) {
        let tcp = Tcp::parse(&arena[range.clone()]);
        let Some(packet) = tcp else {
            // A packet of a connection that cannot be joined (a bare acknowledgement, say) must not be overtaken.
            if let Some(connection) = connection(&arena[range.clone()])
                && let Some(tcp) = self.latest(connection).and_then(|piece| piece.tcp.as_mut())
            {
                tcp.is_closed = true;
            }
            self.pieces.push(Piece { first: range, tcp: None, others: None, count: 1 });
            return;
        };
        let index = self.joined.len();
        let Some(piece) = self.latest(packet.addresses_and_ports).filter(|piece| piece.takes(arena, &packet, &range))
        else {
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
    fn latest(&mut self, connection: [u8; 12]) -> Option<&mut Piece> {
        let mut recent = self.pieces.iter_mut().rev().take(LOOK_BACK);
        recent.find(|piece| piece.tcp.is_some_and(|tcp| tcp.addresses_and_ports == connection))
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
        let number = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
        // The type of service, the fragment field, time to live and protocol; acknowledgement, window and options. Where
        // a packet may be fragmented, cutting numbers them one up.
        ours[1] == theirs[1]
            && ours[6..10] == theirs[6..10]
            && (ours[6] & DONT_FRAGMENT != 0 || number(theirs) == number(ours).wrapping_add(self.count as u16))
            && ours[IP_HEADER + 8..IP_HEADER + 13] == theirs[IP_HEADER + 8..IP_HEADER + 13]
            && ours[IP_HEADER + 14..IP_HEADER + 16] == theirs[IP_HEADER + 14..IP_HEADER + 16]
            && ours[IP_HEADER + TCP_HEADER..tcp.header] == theirs[IP_HEADER + TCP_HEADER..tcp.header]
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
        let addresses_and_ports = connection(packet)?;
        let flags = packet[IP_HEADER + 13];
        let header = IP_HEADER + usize::from(packet[IP_HEADER + 12] >> 4) * 4;
        let length = u16::from_be_bytes([packet[2], packet[3]]);
        let is_whole = header >= IP_HEADER + TCP_HEADER && usize::from(length) == packet.len() && packet.len() > header;
        if !is_whole || flags & !PSH != ACK {
            return None;
        }
        // The kernel takes what is joined as checked.
        let is_intact = Sum::default().add(&packet[..IP_HEADER]).is_whole()
            && pseudo_header(packet, length - IP_HEADER as u16).add(&packet[IP_HEADER..]).is_whole();
        let size = packet.len() - header;
        let sequence = &packet[IP_HEADER + 4..IP_HEADER + 8];
        let sequence = u32::from_be_bytes(sequence.try_into().expect("the slice has four bytes"));
        is_intact.then_some(Tcp {
            addresses_and_ports,
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
        let total = u16::try_from(self.total).expect("packets join up to what IPv4 can be long");
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        write_ip_checksum(&mut packet[..IP_HEADER]);
        if self.is_pushed {
            packet[IP_HEADER + 13] |= PSH;
        }
        // The kernel adds the sum over the rest, if anybody asks for it.
        let sum = pseudo_header(packet, total - IP_HEADER as u16).fold();
        packet[IP_HEADER + 16..IP_HEADER + 18].copy_from_slice(&sum);
        vnet::joined_tcp(self.header as u16, IP_HEADER as u16, self.size as u16)
    }
}

/// The addresses and ports of a TCP packet without IP options that is no fragment.
fn connection(packet: &[u8]) -> Option<[u8; 12]> {
    let is_tcp = packet.len() >= IP_HEADER + TCP_HEADER
        && packet[0] == 0x45
        && packet[9] == PROTOCOL_TCP
        && packet[6] & !DONT_FRAGMENT == 0
        && packet[7] == 0;
    is_tcp.then(|| packet[12..24].try_into().expect("the slice has twelve bytes"))
}

#[cfg(test)]
mod tests;
