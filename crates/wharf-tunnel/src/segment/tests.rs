use proptest::prelude::*;

use super::*;

/// What a TCP packet for a test is made of.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) ip: Ip,
    pub(crate) payload: Vec<u8>,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    pub(crate) options: usize,
    pub(crate) port: u16,
    /// The type of service or traffic class.
    pub(crate) service: u8,
    /// The time to live or hop limit.
    pub(crate) hops: u8,
    /// IPv4's identification, IPv6's flow label.
    pub(crate) number: u16,
    /// Of no meaning with IPv6.
    pub(crate) may_fragment: bool,
}

impl Sample {
    /// One that has these bytes to say.
    pub(crate) fn new(ip: Ip, payload: Vec<u8>) -> Sample {
        Sample {
            ip,
            payload,
            sequence: 1000,
            flags: 0x10,
            options: 12,
            port: 80,
            service: 3,
            hops: 64,
            number: 7,
            may_fragment: false,
        }
    }

    /// The packet, with an IP length and checksums as the kernel leaves them: to be done.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = header(self.ip, ip::TCP);
        match self.ip {
            Ip::V4 => {
                packet[1] = self.service;
                packet[4..6].copy_from_slice(&self.number.to_be_bytes());
                packet[6] = if self.may_fragment { 0 } else { 0x40 };
                packet[8] = self.hops;
            }
            Ip::V6 => {
                packet[0] |= self.service >> 4;
                packet[1] |= self.service << 4;
                packet[2..4].copy_from_slice(&self.number.to_be_bytes());
                packet[7] = self.hops;
            }
        }
        packet.extend(40000u16.to_be_bytes());
        packet.extend(self.port.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(77u32.to_be_bytes());
        packet.extend([((20 + self.options) * 4) as u8, self.flags, 1, 2, 0, 0, 0, 0]);
        packet.extend((0..self.options).map(|byte| byte as u8));
        packet.extend(&self.payload);
        packet
    }

    /// The packet as it goes over a link, complete.
    pub(crate) fn complete_packet(&self) -> Vec<u8> {
        let mut packet = self.packet();
        let length = packet.len();
        self.ip.finish_header(&mut packet, length, 0);
        let (header, segment) = packet.split_at_mut(self.ip.plain_header());
        let sum = self.ip.pseudo_header(header, ip::TCP, segment.len() as u16).add(segment).checksum();
        segment[16..18].copy_from_slice(&sum);
        packet
    }

    pub(crate) fn offload(&self, size: u16) -> Offload {
        Offload::Tcp { start: self.ip.plain_header(), size }
    }
}

/// A header from one address to another.
fn header(ip: Ip, protocol: u8) -> Vec<u8> {
    match ip {
        Ip::V4 => vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
        Ip::V6 => {
            let addresses = ["fd99::a:1", "fd99::b:2"].map(|address| address.parse::<std::net::Ipv6Addr>().unwrap());
            [vec![0x60, 0, 0, 0, 0, 0, protocol, 64], addresses.map(|address| address.octets()).concat()].concat()
        }
    }
}

/// All packets that `data` is cut into.
pub(crate) fn cut(data: &mut [u8], offload: Offload) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(data, offload).unwrap();
    std::iter::from_fn(|| segments.next().map(<[u8]>::to_vec)).collect()
}

/// Fails unless the checksums and the length of a packet are right that has nothing between the headers of IP and `protocol`.
pub(crate) fn assert_valid(packet: &[u8], protocol: u8) {
    let ip = Ip::of(packet).unwrap();
    assert_eq!(ip.length(packet), packet.len());
    assert!(ip.plainly_carries(packet, protocol));
    assert!(ip.has_whole_header(packet), "the IP header's checksum");
    let (header, rest) = packet.split_at(ip.plain_header());
    let sum = ip.pseudo_header(header, protocol, rest.len() as u16).add(rest);
    assert!(sum.is_whole(), "the checksum of TCP or UDP");
}

pub(crate) fn ips() -> impl Strategy<Value = Ip> {
    prop_oneof![Just(Ip::V4), Just(Ip::V6)]
}

pub(crate) fn samples() -> impl Strategy<Value = (Sample, u16)> {
    let payload = proptest::collection::vec(any::<u8>(), 1..20_000);
    let of_tcp = (any::<u32>(), prop_oneof![Just(0x10u8), Just(0x18)], 0usize..=10, 80u16..84);
    let of_ip = (ips(), any::<u8>(), any::<u8>(), any::<u16>(), any::<bool>());
    (payload, of_tcp, of_ip, 100u16..3000).prop_map(|(payload, of_tcp, of_ip, size)| {
        let (sequence, flags, options, port) = of_tcp;
        let (ip, service, hops, number, may_fragment) = of_ip;
        let options = options * 4;
        (Sample { ip, payload, sequence, flags, options, port, service, hops, number, may_fragment }, size)
    })
}

proptest! {
    #[test]
    fn tcp_segments_are_valid_and_have_all_the_payload_in_order((sample, size) in samples()) {
        let start = sample.ip.plain_header();
        let header = start + 20 + sample.options;
        let segments = cut(&mut sample.packet(), sample.offload(size));
        let mut payload: Vec<u8> = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            assert_valid(segment, ip::TCP);
            let sequence = u32::from_be_bytes(segment[start + 4..start + 8].try_into().unwrap());
            prop_assert_eq!(sequence, sample.sequence.wrapping_add(payload.len() as u32));
            let (at, step) = match sample.ip {
                Ip::V4 => (4, index),
                Ip::V6 => (2, 0),
            };
            let number = u16::from_be_bytes([segment[at], segment[at + 1]]);
            prop_assert_eq!(number, sample.number.wrapping_add(step as u16));
            let is_last = index + 1 == segments.len();
            prop_assert_eq!(segment[start + 13], if is_last { sample.flags } else { sample.flags & !0x08 });
            prop_assert!(is_last || segment.len() == header + usize::from(size));
            payload.extend(&segment[header..]);
        }
        prop_assert_eq!(payload, sample.payload);
    }

    #[test]
    fn udp_datagrams_are_valid_and_have_all_the_payload(ip in ips(), payload in proptest::collection::vec(any::<u8>(), 1..9000), size in 100u16..2000) {
        let mut data = header(ip, ip::UDP);
        let start = data.len();
        data.extend([1, 2, 3, 4, 0, 0, 0, 0]);
        data.extend(&payload);
        let mut got: Vec<u8> = Vec::new();
        for datagram in cut(&mut data, Offload::Udp { start, size }) {
            assert_valid(&datagram, ip::UDP);
            let length = u16::from_be_bytes([datagram[start + 4], datagram[start + 5]]);
            prop_assert_eq!(usize::from(length), datagram.len() - start);
            got.extend(&datagram[start + 8..]);
        }
        prop_assert_eq!(got, payload);
    }

    #[test]
    fn no_bytes_and_no_offload_make_it_panic(mut data in proptest::collection::vec(any::<u8>(), 0..300), header in any::<[u8; 10]>(), kind in 0u8..6, start in 0u8..=80, first in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()]) {
        let mut header = header;
        header[1] = kind;
        if start <= 60 {
            header[6..8].copy_from_slice(&u16::from(start).to_ne_bytes());
        }
        if let Some(byte) = data.first_mut() {
            *byte = first;
        }
        if let Some(offload) = crate::vnet::parse(&header)
            && let Some(mut segments) = Segments::new(&mut data, offload)
        {
            while segments.next().is_some() {}
        }
    }
}

#[test]
fn a_checksum_that_the_kernel_left_is_completed() {
    for ip in [Ip::V4, Ip::V6] {
        let sample = Sample::new(ip, vec![1, 2, 3, 4, 5]);
        let start = ip.plain_header();
        let mut packet = sample.complete_packet();
        let sum = ip.pseudo_header(&packet, ip::TCP, (packet.len() - start) as u16).fold();
        packet[start + 16..start + 18].copy_from_slice(&sum);
        let packets = cut(&mut packet, Offload::Checksum { start, offset: 16 });
        assert_eq!(packets, [sample.complete_packet()]);
        assert_valid(&packets[0], ip::TCP);
    }
}

#[test]
fn the_flags_of_the_first_and_of_the_last_segment_are_on_no_other() {
    for ip in [Ip::V4, Ip::V6] {
        let sample = Sample { flags: 0x80 | 0x10 | 0x08 | 0x01, ..Sample::new(ip, vec![0; 300]) };
        let packets = cut(&mut sample.packet(), sample.offload(100));
        let flags: Vec<u8> = packets.iter().map(|packet| packet[ip.plain_header() + 13]).collect();
        assert_eq!(flags, [0x90, 0x10, 0x19]);
    }
}

#[test]
fn extension_headers_are_on_every_segment() {
    let sample = Sample::new(Ip::V6, vec![0; 250]);
    // The options of hop 0, which are padding (RFC 8200 §4.2, §4.3).
    let extension = [ip::TCP, 0, 1, 4, 0, 0, 0, 0];
    let mut packet = sample.packet();
    packet[6] = 0;
    packet.splice(40..40, extension);
    let segments = cut(&mut packet, Offload::Tcp { start: 48, size: 100 });
    assert_eq!(segments.len(), 3);
    for mut segment in segments {
        assert_eq!(segment[40..48], extension);
        assert_eq!(Ip::V6.length(&segment), segment.len());
        segment.drain(40..48);
        segment[6] = ip::TCP;
        let length = segment.len();
        Ip::V6.finish_header(&mut segment, length, 0);
        assert_valid(&segment, ip::TCP);
    }
}

#[test]
fn what_is_malformed_is_dropped_and_what_else_is_whole_passes_as_it_is() {
    let passes = |mut packet: Vec<u8>| {
        let before = packet.clone();
        let packets = Segments::new(&mut packet, Offload::None).map(|mut segments| segments.next().unwrap().to_vec());
        packets.inspect(|packet| assert_eq!(*packet, before)).is_some()
    };
    for ip in [Ip::V4, Ip::V6] {
        let packet = Sample::new(ip, vec![1; 100]).complete_packet();
        assert!(passes(packet.clone()));
        assert!(!passes(packet[..packet.len() - 1].to_vec()), "it says that it is longer");
        assert!(!passes(packet[..ip.plain_header() - 1].to_vec()), "it ends in the header");
        assert!(!passes(Vec::new()));
        for version in (0..16).filter(|version| ![4, 6].contains(version)) {
            let mut packet = packet.clone();
            packet[0] = version << 4 | packet[0] & 0x0f;
            assert!(!passes(packet), "there is no IP {version}");
        }
    }
    // An echo request of ICMPv6, and a fragment.
    for next_header in [58, 44] {
        let mut packet = header(Ip::V6, next_header);
        packet[5] = 8;
        packet.extend([128, 0, 0, 1, 0, 0, 0, 0]);
        assert!(passes(packet));
    }
}
