use proptest::prelude::*;

use super::*;
use crate::segment::tests::{Sample, assert_valid, cut, samples};
use crate::vnet::Offload;

/// Joins packets and cuts what comes out again; also the number of pieces that there were.
fn joined_and_cut(packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, usize) {
    let mut arena = Vec::new();
    let mut coalescer = Coalescer::default();
    for packet in packets {
        let start = arena.len();
        arena.extend(packet);
        coalescer.push(&arena, start..start + packet.len());
    }
    let mut pieces = Vec::new();
    coalescer
        .write_all(&mut arena, |parts| {
            let (header, rest) = parts.split_first().unwrap();
            let header: [u8; vnet::LENGTH] = header.as_ref().try_into().unwrap();
            let data: Vec<u8> = rest.iter().flat_map(|part| part.iter().copied()).collect();
            pieces.push((header, data));
            Ok(())
        })
        .unwrap();
    let count = pieces.len();
    let packets = pieces.into_iter().flat_map(|(header, mut data)| {
        assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len());
        cut(&mut data, vnet::parse(&header).unwrap())
    });
    (packets.collect(), count)
}

fn segments(sample: &Sample, size: u16) -> Vec<Vec<u8>> {
    cut(&mut sample.packet(), Offload::Tcp { size })
}

fn port(packet: &[u8]) -> [u8; 2] {
    [packet[22], packet[23]]
}

proptest! {
    #[test]
    fn what_is_cut_joins_to_one_piece_and_cuts_to_the_same_packets((sample, size) in samples()) {
        let packets = segments(&sample, size);
        let (again, pieces) = joined_and_cut(&packets);
        prop_assert_eq!(&again, &packets);
        prop_assert_eq!(pieces, packets.len().div_ceil(MAXIMUM_PARTS));
    }

    #[test]
    fn connections_that_are_mixed_keep_each_its_own_packets_in_order(
        streams in proptest::collection::vec(samples(), 1..5),
        order in proptest::collection::vec(0usize..5, 0..200),
    ) {
        let mut queues: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(index, (sample, size))| {
                let sample = Sample { port: 80 + index as u16, ..sample.clone() };
                segments(&sample, *size).into_iter()
            })
            .collect();
        let mut packets: Vec<Vec<u8>> = Vec::new();
        for index in order {
            packets.extend(queues.get_mut(index).and_then(Iterator::next));
        }
        let (again, _) = joined_and_cut(&packets);
        prop_assert_eq!(again.len(), packets.len());
        for stream in 80..85u16 {
            let of_stream = |packets: &[Vec<u8>]| -> Vec<Vec<u8>> {
                packets.iter().filter(|packet| port(packet) == stream.to_be_bytes()).cloned().collect()
            };
            prop_assert_eq!(of_stream(&again), of_stream(&packets));
        }
    }

    #[test]
    fn lost_reordered_and_repeated_packets_pass_as_they_came(
        (sample, size) in samples(),
        order in proptest::collection::vec(0usize..60, 0..60),
    ) {
        let all = segments(&sample, size);
        let packets: Vec<Vec<u8>> = order.iter().filter_map(|index| all.get(*index).cloned()).collect();
        prop_assert_eq!(joined_and_cut(&packets).0, packets);
    }

    #[test]
    fn no_bytes_make_it_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 20..100), 0..10)) {
        let mut arena = Vec::new();
        let mut coalescer = Coalescer::default();
        for mut packet in packets {
            packet[0] = 0x45;
            packet[9] = 6;
            let start = arena.len();
            arena.extend(&packet);
            coalescer.push(&arena, start..arena.len());
        }
        coalescer.write_all(&mut arena, |_| Ok(())).unwrap();
    }
}

/// What becomes of two packets that follow each other, the second of which is changed.
fn pieces_after(change: impl Fn(&mut Sample)) -> usize {
    let first = Sample::new(vec![1; 500]);
    let mut second = Sample { sequence: first.sequence + 500, number: first.number + 1, ..first.clone() };
    change(&mut second);
    let packets: Vec<_> = [first, second].iter().flat_map(|sample| segments(sample, 500)).collect();
    let (again, pieces) = joined_and_cut(&packets);
    assert_eq!(again, packets);
    pieces
}

#[test]
fn only_what_follows_directly_and_is_alike_is_joined() {
    assert_eq!(pieces_after(|_| {}), 1);
    assert_eq!(pieces_after(|second| second.flags |= PSH), 1);
    assert_eq!(pieces_after(|second| second.payload.truncate(10)), 1);
    assert_eq!(pieces_after(|second| second.sequence += 1), 2);
    assert_eq!(pieces_after(|second| second.port += 1), 2);
    assert_eq!(pieces_after(|second| second.options = 16), 2);
    assert_eq!(pieces_after(|second| second.flags |= 0x01), 2);
    assert_eq!(pieces_after(|second| second.may_fragment = true), 2);
}

#[test]
fn a_bare_acknowledgement_is_not_overtaken() {
    let data = Sample::new(vec![1; 500]);
    let acknowledgement = Sample { sequence: 1500, payload: Vec::new(), ..data };
    let later = Sample { sequence: 1500, ..data.clone() };
    let mut bare = acknowledgement.packet();
    let length = bare.len() as u16;
    bare[2..4].copy_from_slice(&length.to_be_bytes());
    write_ip_checksum(&mut bare[..IP_HEADER]);
    let sum = pseudo_header(&bare, length - 20).add(&bare[20..]).checksum();
    bare[36..38].copy_from_slice(&sum);
    assert_valid(&bare);
    let packets = [segments(&data, 500), vec![bare], segments(&later, 500)].concat();
    assert_eq!(joined_and_cut(&packets), (packets, 3));
}

#[test]
fn a_damaged_packet_is_left_to_the_kernel_to_refuse() {
    let mut packets = segments(&Sample::new(vec![1; 1500]), 500);
    packets[1][100] ^= 1;
    let (again, pieces) = joined_and_cut(&packets);
    assert_eq!((again, pieces), (packets, 3));
}
