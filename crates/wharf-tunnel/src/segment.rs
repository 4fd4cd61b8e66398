//! Cuts what the kernel hands over in one piece into packets that fit the tunnel, as a network card with TCP segmentation
//! offload does. It happens in place: the headers of each packet are written over the end of the packet before it, which
//! has been encrypted by then, so no payload is ever copied.

use crate::checksum::Sum;
use crate::ip::{self, Ip};
use crate::vnet::Offload;

/// The shortest TCP header (RFC 9293 §3.1).
pub(crate) const TCP_HEADER: usize = 20;
/// The UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// The longest headers together that are taken: those of IPv6, with 120 bytes of extension headers, and TCP.
const LONGEST_HEADERS: usize = 220;

/// TCP's flags FIN and PSH, which belong to the last segment only.
const LAST_ONLY: u8 = 0x01 | 0x08;
/// TCP's flag CWR, which belongs to the first segment only (RFC 3168 §6.1.2).
const FIRST_ONLY: u8 = 0x80;

/// The packets in one piece of data from the kernel, one after the other.
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    data: &'a mut [u8],
    ip: Ip,
    kind: Kind,
    /// The headers as the kernel gave them: those in `data` are overwritten.
    headers: [u8; LONGEST_HEADERS],
    /// The length of all that is before the header of TCP or UDP.
    ip_header: usize,
    /// All headers together.
    header: usize,
    /// Payload per packet.
    size: usize,
    /// How many packets have been given.
    given: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A packet as it is.
    Whole,
    Tcp,
    Udp,
}

impl<'a> Segments<'a> {
    /// The packets in `data`, an IP packet of any length. `None` if it is malformed.
    pub(crate) fn new(data: &'a mut [u8], offload: Offload) -> Option<Segments<'a>> {
        let ip = Ip::of(data)?;
        let (kind, start, size) = match offload {
            Offload::None => (Kind::Whole, 0, 0),
            Offload::Checksum { start, offset } => {
                complete_checksum(data, start, offset)?;
                (Kind::Whole, 0, 0)
            }
            Offload::Tcp { start, size } => (Kind::Tcp, start, size),
            Offload::Udp { start, size } => (Kind::Udp, start, size),
        };
        // Extension headers of IPv6 are on each packet too; the kernel says where they end.
        let ip_header = ip.header(data).max(start);
        let transport_header = match kind {
            Kind::Whole => 0,
            Kind::Tcp => {
                Some(usize::from(*data.get(ip_header + 12)? >> 4) * 4).filter(|length| *length >= TCP_HEADER)?
            }
            Kind::Udp => UDP_HEADER,
        };
        let header = ip_header + transport_header;
        let is_well_formed = match kind {
            Kind::Whole => ip.length(data) <= data.len(),
            // What is cut gets lengths of its own.
            Kind::Tcp | Kind::Udp => header < data.len() && header <= LONGEST_HEADERS,
        };
        if !is_well_formed {
            return None;
        }
        let mut headers = [0; LONGEST_HEADERS];
        headers[..header].copy_from_slice(&data[..header]);
        Some(Segments { data, ip, kind, headers, ip_header, header, size: usize::from(size), given: 0 })
    }

    /// The next packet, complete with its checksums; `None` after the last.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let index = self.given;
        if self.kind == Kind::Whole {
            self.given += 1;
            return (index == 0).then_some(&*self.data);
        }
        let before = index * self.size;
        let start = self.header + before;
        if start >= self.data.len() {
            return None;
        }
        self.given += 1;
        let end = self.data.len().min(start + self.size);
        let is_last = end == self.data.len();
        let packet = &mut self.data[before..end];
        packet[..self.header].copy_from_slice(&self.headers[..self.header]);
        let length = packet.len();
        self.ip.finish_header(packet, length, index);
        let (ip_header, transport) = packet.split_at_mut(self.ip_header);
        let length = u16::try_from(transport.len()).ok()?;
        let pseudo_header = |protocol| self.ip.pseudo_header(ip_header, protocol, length);
        match self.kind {
            Kind::Tcp => finish_tcp(transport, pseudo_header(ip::TCP), before, index == 0, is_last),
            Kind::Udp => finish_udp(transport, pseudo_header(ip::UDP), length),
            Kind::Whole => {}
        }
        Some(packet)
    }
}

/// Writes the checksum that the kernel left undone; `None` if it says it belongs outside the packet.
fn complete_checksum(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    /// Where UDP has its checksum.
    const UDP_CHECKSUM: usize = 6;
    // What is in the field already is the pseudo-header's sum.
    let checksum = Sum::default().add(packet.get(start..)?).checksum();
    let checksum = if offset == UDP_CHECKSUM { never_zero(checksum) } else { checksum };
    packet.get_mut(start + offset..start + offset + 2)?.copy_from_slice(&checksum);
    Some(())
}

/// In UDP, a checksum of zero means that there is none, so all ones stand for it (RFC 768).
fn never_zero(checksum: [u8; 2]) -> [u8; 2] {
    if checksum == [0, 0] { [0xff, 0xff] } else { checksum }
}

/// The TCP header of the segment that begins `before` bytes after the first.
fn finish_tcp(segment: &mut [u8], pseudo_header: Sum, before: usize, is_first: bool, is_last: bool) {
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]).wrapping_add(before as u32);
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_last {
        segment[13] &= !LAST_ONLY;
    }
    if !is_first {
        segment[13] &= !FIRST_ONLY;
    }
    segment[16..18].fill(0);
    let checksum = pseudo_header.add(segment).checksum();
    segment[16..18].copy_from_slice(&checksum);
}

/// The UDP header.
fn finish_udp(datagram: &mut [u8], pseudo_header: Sum, length: u16) {
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    datagram[6..8].fill(0);
    let checksum = never_zero(pseudo_header.add(datagram).checksum());
    datagram[6..8].copy_from_slice(&checksum);
}

#[cfg(test)]
pub(crate) mod tests;
