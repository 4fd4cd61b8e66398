use proptest::prelude::*;

use super::*;

/// What a TCP packet for a test is made of.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) payload: Vec<u8>,
    pub(crate) sequence: u32,
    pub(crate) number: u16,
    pub(crate) flags: u8,
    pub(crate) options: usize,
    pub(crate) may_fragment: bool,
    pub(crate) port: u16,
}

impl Sample {
    /// One that has these bytes to say.
    pub(crate) fn new(payload: Vec<u8>) -> Sample {
        Sample { payload, sequence: 1000, number: 7, flags: 0x10, options: 12, may_fragment: false, port: 80 }
    }

    /// The packet, with an IP length and checksums as the kernel leaves them: to be done.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, if self.may_fragment { 0 } else { 0x40 }, 0, 64, 6, 0, 0];
        packet[4..6].copy_from_slice(&self.number.to_be_bytes());
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(40000u16.to_be_bytes());
        packet.extend(self.port.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(77u32.to_be_bytes());
        packet.extend([((20 + self.options) * 4) as u8, self.flags, 1, 2, 0, 0, 0, 0]);
        packet.extend((0..self.options).map(|byte| byte as u8));
        packet.extend(&self.payload);
        packet
    }
}

/// All packets that `data` is cut into.
pub(crate) fn cut(data: &mut [u8], offload: Offload) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(data, offload).unwrap();
    std::iter::from_fn(|| segments.next().map(<[u8]>::to_vec)).collect()
}

/// Fails unless the checksums and the length of an IPv4 packet are right.
pub(crate) fn assert_valid(packet: &[u8]) {
    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
    assert!(Sum::default().add(&packet[..IP_HEADER]).is_whole(), "the IP header's checksum");
    let sum = pseudo_header(packet, (packet.len() - IP_HEADER) as u16).add(&packet[IP_HEADER..]);
    assert!(sum.is_whole(), "the checksum of TCP or UDP");
}

pub(crate) fn samples() -> impl Strategy<Value = (Sample, u16)> {
    let payload = proptest::collection::vec(any::<u8>(), 1..20_000);
    let rest =
        (any::<u32>(), any::<u16>(), prop_oneof![Just(0x10u8), Just(0x18)], 0usize..=10, any::<bool>(), 80u16..84);
    (payload, rest, 100u16..3000).prop_map(|(payload, (sequence, number, flags, options, may_fragment, port), size)| {
        (Sample { payload, sequence, number, flags, options: options * 4, may_fragment, port }, size)
    })
}

proptest! {
    #[test]
    fn tcp_segments_are_valid_and_have_all_the_payload_in_order((sample, size) in samples()) {
        let header = 40 + sample.options;
        let segments = cut(&mut sample.packet(), Offload::Tcp { size });
        let mut payload: Vec<u8> = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            assert_valid(segment);
            let sequence = u32::from_be_bytes(segment[24..28].try_into().unwrap());
            prop_assert_eq!(sequence, sample.sequence.wrapping_add(payload.len() as u32));
            let number = u16::from_be_bytes([segment[4], segment[5]]);
            prop_assert_eq!(number, sample.number.wrapping_add(index as u16));
            let is_last = index + 1 == segments.len();
            prop_assert_eq!(segment[33], if is_last { sample.flags } else { sample.flags & !0x08 });
            prop_assert!(is_last || segment.len() == header + usize::from(size));
            payload.extend(&segment[header..]);
        }
        prop_assert_eq!(payload, sample.payload);
    }

    #[test]
    fn udp_datagrams_are_valid_and_have_all_the_payload(payload in proptest::collection::vec(any::<u8>(), 1..9000), size in 100u16..2000) {
        let mut data = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0];
        data.extend(&payload);
        let mut got: Vec<u8> = Vec::new();
        for datagram in cut(&mut data, Offload::Udp { size }) {
            assert_valid(&datagram);
            prop_assert_eq!(usize::from(u16::from_be_bytes([datagram[24], datagram[25]])), datagram.len() - 20);
            got.extend(&datagram[28..]);
        }
        prop_assert_eq!(got, payload);
    }

    #[test]
    fn no_bytes_and_no_offload_make_it_panic(mut data in proptest::collection::vec(any::<u8>(), 0..200), header in any::<[u8; 10]>(), kind in 0u8..6, ip in any::<bool>()) {
        let mut header = header;
        header[1] = kind;
        if ip && data.len() > 9 {
            data[0] = 0x45;
            data[9] = if kind == 5 { 17 } else { 6 };
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
    let mut packet = Sample::new(vec![1, 2, 3, 4, 5]).packet();
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    write_ip_checksum(&mut packet[..IP_HEADER]);
    let sum = pseudo_header(&packet, length - 20).fold();
    packet[36..38].copy_from_slice(&sum);
    let packets = cut(&mut packet, Offload::Checksum { start: 20, offset: 16 });
    assert_eq!(packets.len(), 1);
    assert_valid(&packets[0]);
}

#[test]
fn the_flags_of_the_first_and_of_the_last_segment_are_on_no_other() {
    let sample = Sample { flags: 0x80 | 0x10 | 0x08 | 0x01, ..Sample::new(vec![0; 300]) };
    let flags: Vec<u8> =
        cut(&mut sample.packet(), Offload::Tcp { size: 100 }).iter().map(|packet| packet[33]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x19]);
}
