use proptest::prelude::*;

use super::*;
use crate::segment::tests::{Sample, assert_valid, cut, samples};

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
        assert_eq!(Ip::of(&data).unwrap().length(&data), data.len());
        cut(&mut data, vnet::parse(&header).unwrap())
    });
    (packets.collect(), count)
}

fn segments(sample: &Sample, size: u16) -> Vec<Vec<u8>> {
    cut(&mut sample.packet(), sample.offload(size))
}

fn port(packet: &[u8]) -> [u8; 2] {
    let start = Ip::of(packet).unwrap().plain_header();
    [packet[start + 2], packet[start + 3]]
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
    fn no_bytes_make_it_panic(packets in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..10)) {
        let mut arena = Vec::new();
        let mut coalescer = Coalescer::default();
        for (is_v6, mut packet) in packets {
            for (at, byte) in if is_v6 { [(0, 0x60), (6, 6)] } else { [(0, 0x45), (9, 6)] } {
                packet.iter_mut().skip(at).take(1).for_each(|to| *to = byte);
            }
            let start = arena.len();
            arena.extend(&packet);
            coalescer.push(&arena, start..arena.len());
        }
        coalescer.write_all(&mut arena, |_| Ok(())).unwrap();
    }
}

/// What becomes of two packets that follow each other, the second of which is changed.
fn pieces_after(ip: Ip, change: impl Fn(&mut Sample)) -> usize {
    let first = Sample::new(ip, vec![1; 500]);
    let number = first.number + if ip == Ip::V4 { 1 } else { 0 };
    let mut second = Sample { sequence: first.sequence + 500, number, ..first.clone() };
    change(&mut second);
    let packets = [first, second].map(|sample| sample.complete_packet());
    let (again, pieces) = joined_and_cut(&packets);
    assert_eq!(again, packets);
    pieces
}

#[test]
fn only_what_follows_directly_and_is_alike_is_joined() {
    for ip in [Ip::V4, Ip::V6] {
        assert_eq!(pieces_after(ip, |_| {}), 1);
        assert_eq!(pieces_after(ip, |second| second.flags |= PSH), 1);
        assert_eq!(pieces_after(ip, |second| second.payload.truncate(10)), 1);
        assert_eq!(pieces_after(ip, |second| second.sequence += 1), 2);
        assert_eq!(pieces_after(ip, |second| second.port += 1), 2);
        assert_eq!(pieces_after(ip, |second| second.options = 16), 2);
        assert_eq!(pieces_after(ip, |second| second.flags |= 0x01), 2);
        assert_eq!(pieces_after(ip, |second| second.service ^= 0x10), 2);
        assert_eq!(pieces_after(ip, |second| second.service ^= 0x01), 2);
        assert_eq!(pieces_after(ip, |second| second.hops -= 1), 2);
    }
    assert_eq!(pieces_after(Ip::V4, |second| second.may_fragment = true), 2);
    assert_eq!(pieces_after(Ip::V6, |second| second.number += 1), 2, "the flow label");
}

#[test]
fn connections_of_both_ips_with_the_same_ports_are_kept_apart() {
    let [four, six] = [Ip::V4, Ip::V6].map(|ip| segments(&Sample::new(ip, vec![1; 1500]), 500));
    let mixed: Vec<_> = std::iter::zip(&four, &six).flat_map(|(four, six)| [four.clone(), six.clone()]).collect();
    assert_eq!(joined_and_cut(&mixed), ([four, six].concat(), 2));
}

#[test]
fn a_bare_acknowledgement_is_not_overtaken() {
    for ip in [Ip::V4, Ip::V6] {
        let data = Sample::new(ip, vec![1; 500]);
        let later = Sample { sequence: 1500, ..data.clone() };
        let bare = Sample { payload: Vec::new(), ..later.clone() };
        let packets = [data, bare, later].map(|sample| sample.complete_packet());
        packets.iter().for_each(|packet| assert_valid(packet, ip::TCP));
        assert_eq!(joined_and_cut(&packets), (packets.to_vec(), 3));
    }
}

#[test]
fn a_damaged_packet_is_left_to_the_kernel_to_refuse() {
    for ip in [Ip::V4, Ip::V6] {
        let mut packets = segments(&Sample::new(ip, vec![1; 1500]), 500);
        packets[1][100] ^= 1;
        let (again, pieces) = joined_and_cut(&packets);
        assert_eq!((again, pieces), (packets, 3));
    }
}
