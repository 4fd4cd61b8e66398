//! What differs between IPv4 (RFC 791) and IPv6 (RFC 8200) in the headers of packets.

use std::ops::Range;

use crate::checksum::Sum;

/// The number of TCP in the headers of IP.
pub(crate) const TCP: u8 = 6;
/// The number of UDP in the headers of IP.
pub(crate) const UDP: u8 = 17;

/// IPv4's flag "don't fragment", in the upper byte of its field.
const DONT_FRAGMENT: u8 = 0x40;

/// Which IP a packet is of. The packets that its functions take are of that kind, with the whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

impl Ip {
    /// Which IP a packet is of; `None` if of neither, or if it ends before its header does.
    pub(crate) fn of(packet: &[u8]) -> Option<Ip> {
        let ip = match packet.first()? >> 4 {
            4 => Ip::V4,
            6 => Ip::V6,
            _ => return None,
        };
        (ip.plain_header()..=packet.len()).contains(&ip.header(packet)).then_some(ip)
    }

    /// The length of a header without options, which in IPv6 come after it, in headers of their own.
    pub(crate) fn plain_header(self) -> usize {
        match self {
            Ip::V4 => 20,
            Ip::V6 => 40,
        }
    }

    /// The length of a packet's header.
    pub(crate) fn header(self, packet: &[u8]) -> usize {
        match self {
            Ip::V4 => usize::from(packet[0] & 0x0f) * 4,
            Ip::V6 => self.plain_header(),
        }
    }

    /// The length of a packet, as its header says.
    pub(crate) fn length(self, packet: &[u8]) -> usize {
        let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        match self {
            Ip::V4 => number(2),
            Ip::V6 => self.plain_header() + number(4),
        }
    }

    /// Where the addresses are; they are the last of a plain header.
    pub(crate) fn addresses(self) -> Range<usize> {
        match self {
            Ip::V4 => 12..20,
            Ip::V6 => 8..40,
        }
    }

    /// Whether a packet has its part of `protocol`, all of it, right after a plain header.
    pub(crate) fn plainly_carries(self, packet: &[u8], protocol: u8) -> bool {
        match self {
            Ip::V4 => {
                let is_fragment = packet[6] & !DONT_FRAGMENT != 0 || packet[7] != 0;
                self.header(packet) == self.plain_header() && !is_fragment && packet[9] == protocol
            }
            Ip::V6 => packet[6] == protocol,
        }
    }

    /// Whether the header came as it was sent; IPv6 leaves that to others to check.
    pub(crate) fn has_whole_header(self, packet: &[u8]) -> bool {
        match self {
            Ip::V4 => Sum::default().add(&packet[..self.header(packet)]).is_whole(),
            Ip::V6 => true,
        }
    }

    /// Whether the header of `other` is what [`Ip::finish_header`] makes of that of `first` for number `index`, as far as
    /// neither lengths nor addresses are concerned.
    pub(crate) fn is_cut_alike(self, first: &[u8], other: &[u8], index: usize) -> bool {
        match self {
            // The type of service; the fragment field, time to live and protocol. The identification means nothing in a
            // packet that is not to be fragmented (RFC 6864 §4.1).
            Ip::V4 => {
                first[1] == other[1]
                    && first[6..10] == other[6..10]
                    && (first[6] & DONT_FRAGMENT != 0 || identification(other) == numbered(first, index))
            }
            // The traffic class and flow label; the next header and hop limit.
            Ip::V6 => first[..4] == other[..4] && first[6..8] == other[6..8],
        }
    }

    /// Makes the header of a packet that of number `index` of those that it is cut into, `length` bytes long.
    pub(crate) fn finish_header(self, packet: &mut [u8], length: usize, index: usize) {
        let number = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        match self {
            Ip::V4 => {
                let identification = numbered(packet, index);
                packet[2..4].copy_from_slice(&number(length));
                packet[4..6].copy_from_slice(&identification.to_be_bytes());
                packet[10..12].fill(0);
                let checksum = Sum::default().add(&packet[..self.header(packet)]).checksum();
                packet[10..12].copy_from_slice(&checksum);
            }
            Ip::V6 => packet[4..6].copy_from_slice(&number(length - self.plain_header())),
        }
    }

    /// The sum over the pseudo-header of TCP (RFC 9293 §3.1) or UDP (RFC 768; RFC 8200 §8.1), `length` bytes of which
    /// the packet carries.
    pub(crate) fn pseudo_header(self, packet: &[u8], protocol: u8, length: u16) -> Sum {
        Sum::default().add(&packet[self.addresses()]).add_number(u16::from(protocol)).add_number(length)
    }
}

/// What IPv4 numbers packets with.
fn identification(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

/// The identification of number `index` of the packets that are cut from one.
fn numbered(first: &[u8], index: usize) -> u16 {
    identification(first).wrapping_add(index as u16)
}
