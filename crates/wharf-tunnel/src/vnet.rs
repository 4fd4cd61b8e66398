//! The header before each packet on a TUN device with `IFF_VNET_HDR`, by which the kernel and this process tell each other
//! what is left to do: `struct virtio_net_hdr` (Virtual I/O Device 1.2 §5.1.6), in the machine's own byte order.

use crate::ip::Ip;

/// The length of the header.
pub(crate) const LENGTH: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: a checksum has only the pseudo-header's sum in it.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`.
const GSO_NONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCP4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
const GSO_TCP6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`, of either IP.
const GSO_UDP: u8 = 5;

/// What is left to do for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Nothing.
    None,
    /// The checksum over everything from `start` on belongs at `start + offset`.
    Checksum {
        /// Where the summed bytes begin.
        start: usize,
        /// Where the checksum is, from `start`.
        offset: usize,
    },
    /// It is to be cut into packets with `size` bytes of TCP payload each.
    Tcp {
        /// Where the TCP header begins; zero if that was not said.
        start: usize,
        /// Payload per packet.
        size: u16,
    },
    /// It is to be cut into packets with `size` bytes of UDP payload each.
    Udp {
        /// Where the UDP header begins; zero if that was not said.
        start: usize,
        /// Payload per packet.
        size: u16,
    },
}

/// Reads the header; `None` if it asks for something that was never offered to the kernel.
pub(crate) fn parse(header: &[u8; LENGTH]) -> Option<Offload> {
    let number = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let size = number(4);
    let start = usize::from(number(6));
    match header[1] {
        GSO_NONE if header[0] & NEEDS_CHECKSUM != 0 => {
            Some(Offload::Checksum { start, offset: usize::from(number(8)) })
        }
        GSO_NONE => Some(Offload::None),
        GSO_TCP4 | GSO_TCP6 if size > 0 => Some(Offload::Tcp { start, size }),
        GSO_UDP if size > 0 => Some(Offload::Udp { start, size }),
        _ => None,
    }
}

/// The header of a packet that needs nothing.
pub(crate) const PLAIN: [u8; LENGTH] = [0; LENGTH];

/// The header of TCP segments of `size` bytes each that were joined, after a plain header of `ip`; both headers together
/// have `header_length` bytes.
pub(crate) fn joined_tcp(ip: Ip, header_length: u16, size: u16) -> [u8; LENGTH] {
    /// Where TCP has its checksum.
    const CHECKSUM_OFFSET: u16 = 16;
    let mut header = [0; LENGTH];
    header[0] = NEEDS_CHECKSUM;
    header[1] = match ip {
        Ip::V4 => GSO_TCP4,
        Ip::V6 => GSO_TCP6,
    };
    header[2..4].copy_from_slice(&header_length.to_ne_bytes());
    header[4..6].copy_from_slice(&size.to_ne_bytes());
    header[6..8].copy_from_slice(&(ip.plain_header() as u16).to_ne_bytes());
    header[8..10].copy_from_slice(&CHECKSUM_OFFSET.to_ne_bytes());
    header
}
