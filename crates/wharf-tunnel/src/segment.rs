//! Cuts what the kernel hands over in one piece into packets that fit the tunnel, as a network card with TCP segmentation
//! offload does. It happens in place: the headers of each packet are written over the end of the packet before it, which
//! has been encrypted by then, so no payload is ever copied.

use crate::checksum::{Sum, pseudo_header};
use crate::vnet::Offload;

/// The shortest IPv4 header (RFC 791 §3.1).
pub(crate) const IP_HEADER: usize = 20;
/// The shortest TCP header (RFC 9293 §3.1).
pub(crate) const TCP_HEADER: usize = 20;
/// The UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// The longest IPv4 and TCP headers together.
const LONGEST_HEADERS: usize = 120;

/// TCP's flags FIN and PSH, which belong to the last segment only.
const LAST_ONLY: u8 = 0x01 | 0x08;
/// TCP's flag CWR, which belongs to the first segment only (RFC 3168 §6.1.2).
const FIRST_ONLY: u8 = 0x80;

/// IP's protocol numbers.
pub(crate) const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// The packets in one piece of data from the kernel, one after the other.
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    data: &'a mut [u8],
    kind: Kind,
    /// The headers as the kernel gave them: those in `data` are overwritten.
    headers: [u8; LONGEST_HEADERS],
    ip_header: usize,
    /// Both headers together.
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
    /// The packets in `data`, an IPv4 packet of any length. `None` if it is malformed.
    pub(crate) fn new(data: &'a mut [u8], offload: Offload) -> Option<Segments<'a>> {
        if data.len() < IP_HEADER || data[0] >> 4 != 4 {
            return None;
        }
        let ip_header = usize::from(data[0] & 0x0f) * 4;
        let (kind, header, size) = match offload {
            Offload::None => (Kind::Whole, 0, 0),
            Offload::Checksum { start, offset } => {
                complete_checksum(data, start, offset)?;
                (Kind::Whole, 0, 0)
            }
            Offload::Tcp { size } if data[9] == PROTOCOL_TCP => {
                let length = usize::from(*data.get(ip_header + 12)? >> 4) * 4;
                (length >= TCP_HEADER).then_some((Kind::Tcp, ip_header + length, size))?
            }
            Offload::Udp { size } if data[9] == PROTOCOL_UDP => (Kind::Udp, ip_header + UDP_HEADER, size),
            Offload::Tcp { .. } | Offload::Udp { .. } => return None,
        };
        if ip_header < IP_HEADER || (kind != Kind::Whole && data.len() <= header) {
            return None;
        }
        let mut headers = [0; LONGEST_HEADERS];
        headers[..header].copy_from_slice(&data[..header]);
        Some(Segments { data, kind, headers, ip_header, header, size: usize::from(size), given: 0 })
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
        finish_ip(packet, self.ip_header, index);
        let length = u16::try_from(packet.len() - self.ip_header).ok()?;
        let sum = pseudo_header(packet, length);
        let transport = &mut packet[self.ip_header..];
        match self.kind {
            Kind::Tcp => finish_tcp(transport, sum, before, index == 0, is_last),
            Kind::Udp => finish_udp(transport, sum, length),
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

/// The IPv4 header of the packet number `index`.
fn finish_ip(packet: &mut [u8], ip_header: usize, index: usize) {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let number = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index as u16);
    packet[4..6].copy_from_slice(&number.to_be_bytes());
    write_ip_checksum(&mut packet[..ip_header]);
}

/// Writes the checksum of an IPv4 header.
pub(crate) fn write_ip_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = Sum::default().add(header).checksum();
    header[10..12].copy_from_slice(&checksum);
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
