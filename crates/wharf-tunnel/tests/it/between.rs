//! Between two tunnels.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wharf_tunnel::{Error, SecretKey};

use crate::lab::{MTU, Node, connected, nodes, nodes_at, start, stop};
use crate::relay::Relay;

/// How long anything may take that is not a matter of speed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one waits for what is not to come.
const MOMENT: Duration = Duration::from_millis(500);

/// Sends `length` bytes over TCP, both ways at once, and fails unless they arrive as they were.
fn exchange(nodes: &[Node; 2], length: usize) {
    let address = (nodes[1].address, 7000);
    let listener = nodes[1].namespace.inside(move || TcpListener::bind(address).unwrap());
    let stream = nodes[0].namespace.inside(move || TcpStream::connect(address).unwrap());
    let (other, _) = listener.accept().unwrap();
    let ends = [talk(stream, length, 1), talk(other, length, 2)];
    let [(sent_by_a, received_by_a), (sent_by_b, received_by_b)] = ends.map(|end| {
        let [sent, received] = end.map(|thread| thread.join().unwrap());
        (sent, received)
    });
    assert_eq!(received_by_b, sent_by_a);
    assert_eq!(received_by_a, sent_by_b);
}

/// Sends pseudo-random bytes and receives as many; each thread returns how many there were, and their digest.
fn talk(stream: TcpStream, length: usize, seed: u64) -> [JoinHandle<(usize, [u8; 32])>; 2] {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut to, mut from) = (stream.try_clone().unwrap(), stream);
    let sender = std::thread::spawn(move || {
        let mut digest = Sha256::new();
        let (mut left, mut state) = (length, seed);
        let mut block = vec![0; 1 << 18];
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.copy_from_slice(&state.to_le_bytes());
            }
            let part = &block[..block.len().min(left)];
            digest.update(part);
            to.write_all(part).unwrap();
            left -= part.len();
        }
        to.shutdown(Shutdown::Write).unwrap();
        (length, digest.finalize().into())
    });
    let receiver = std::thread::spawn(move || {
        let mut digest = Sha256::new();
        let mut total = 0;
        let mut block = vec![0; 1 << 18];
        loop {
            let length = from.read(&mut block).unwrap();
            if length == 0 {
                return (total, digest.finalize().into());
            }
            digest.update(&block[..length]);
            total += length;
        }
    });
    [sender, receiver]
}

#[test]
fn a_datagram_passes_and_the_status_tells_of_it() {
    let nodes = nodes();
    assert!(nodes[0].reaches(&nodes[1], 56, PATIENCE));
    for (own, other) in [(0, 1), (1, 0)] {
        let [status] = nodes[own].tunnel.status().unwrap().try_into().unwrap();
        assert_eq!(status.key, nodes[other].key);
        assert_eq!(status.endpoint, nodes[other].as_peer().endpoint);
        assert!(status.last_handshake.unwrap() < PATIENCE);
        assert!(status.sent >= 28 && status.received >= 28, "{status:?}");
    }
}

#[test]
fn datagrams_of_every_size_pass_below_and_above_the_mtu() {
    let nodes = nodes();
    for length in [0, 1, 1391, 1392, 1393, 1394, 20_000, 60_000] {
        assert!(nodes[0].reaches(&nodes[1], length, PATIENCE), "{length} bytes");
    }
    let nodes = nodes.map(Node::by_ipv6);
    for length in [0, 1, 1371, 1372, 1373, 1374, 20_000, 60_000] {
        assert!(nodes[0].reaches(&nodes[1], length, PATIENCE), "{length} bytes by IPv6");
    }
}

#[test]
fn two_hundred_megabytes_arrive_as_they_were_both_ways_at_once() {
    exchange(&nodes(), 200_000_000);
}

#[test]
fn a_hundred_megabytes_arrive_as_they_were_both_ways_at_once_by_ipv6_too() {
    exchange(&nodes().map(Node::by_ipv6), 100_000_000);
}

#[test]
fn tcp_crosses_between_the_kernel_and_the_tunnel_in_pieces_longer_than_the_mtu() {
    let check = |nodes: [Node; 2]| {
        exchange(&nodes, 20_000_000);
        let count = |name: &str| -> u64 {
            let text = nodes[0].namespace.run(&format!("cat /sys/class/net/wharf1/statistics/{name}"));
            text.trim().parse().unwrap()
        };
        for direction in ["tx", "rx"] {
            let (bytes, packets) = (count(&format!("{direction}_bytes")), count(&format!("{direction}_packets")));
            assert!(bytes / packets > 2 * u64::from(MTU), "{direction}: {bytes} bytes in {packets} pieces");
        }
    };
    check(nodes());
    check(nodes().map(Node::by_ipv6));
}

#[test]
fn it_runs_over_ipv6() {
    let nodes = nodes_at(["2001:db8::1", "2001:db8::2"]);
    exchange(&nodes, 5_000_000);
    let nodes = nodes.map(Node::by_ipv6);
    exchange(&nodes, 5_000_000);
    assert!(nodes[0].tunnel.status().unwrap()[0].endpoint.is_ipv6());
}

#[test]
fn loss_reordering_and_repetition_on_the_underlay_do_not_change_what_arrives() {
    let nodes = nodes();
    let relay = Relay::start(&nodes);
    for (node, other) in [(0, 1), (1, 0)] {
        let peer = wharf_tunnel::Peer { endpoint: relay.address, ..nodes[other].as_peer() };
        nodes[node].tunnel.set_peers(vec![peer]).unwrap();
    }
    exchange(&nodes, 3_000_000);
    let nodes = nodes.map(Node::by_ipv6);
    exchange(&nodes, 3_000_000);
    assert_eq!(nodes[0].tunnel.status().unwrap()[0].endpoint, relay.address);
}

#[test]
fn an_underlay_that_cuts_nothing_is_served_packet_by_packet() {
    let nodes = nodes();
    for node in &nodes {
        node.namespace.run("ip link set eth0 gso_max_segs 1");
    }
    exchange(&nodes, 5_000_000);
}

#[test]
fn an_underlay_too_narrow_for_the_mtu_fragments() {
    let nodes = nodes();
    for node in &nodes {
        node.namespace.run("ip link set eth0 mtu 1300");
    }
    exchange(&nodes, 5_000_000);
}

#[test]
fn a_removed_peer_gets_and_sends_nothing_any_more() {
    let nodes = nodes();
    assert!(nodes[0].reaches(&nodes[1], 56, PATIENCE));
    nodes[1].tunnel.set_peers(Vec::new()).unwrap();
    assert!(!nodes[0].reaches(&nodes[1], 56, MOMENT));
    assert!(nodes[1].tunnel.status().unwrap().is_empty());
    nodes[1].tunnel.set_peers(vec![nodes[0].as_peer()]).unwrap();
    assert!(nodes[1].reaches(&nodes[0], 56, PATIENCE));
}

#[test]
fn a_change_of_other_peers_does_not_disturb_a_session() {
    let nodes = nodes();
    assert!(nodes[0].reaches(&nodes[1], 56, PATIENCE));
    let before = nodes[0].tunnel.status().unwrap()[0].last_handshake.unwrap();
    let other = wharf_tunnel::Peer {
        key: SecretKey::generate().public(),
        endpoint: "192.0.2.77:1".parse().unwrap(),
        allowed: vec!["10.99.77.0/24".parse().unwrap()],
    };
    nodes[0].tunnel.set_peers(vec![nodes[1].as_peer(), other]).unwrap();
    assert!(nodes[0].reaches(&nodes[1], 56, PATIENCE));
    let status = nodes[0].tunnel.status().unwrap();
    let after = status.iter().find(|status| status.key == nodes[1].key).unwrap().last_handshake.unwrap();
    assert!(after >= before, "there was no new handshake");
}

#[test]
fn a_node_that_starts_again_is_heard_at_once() {
    let mut nodes = nodes();
    assert!(nodes[1].reaches(&nodes[0], 56, PATIENCE));
    // The same name and port can be had only after the former tunnel is gone.
    let [first, second] = nodes;
    let Node { tunnel, namespace, underlay, number, .. } = first;
    stop(tunnel);
    let first = Node::start(namespace, underlay, number);
    second.tunnel.set_peers(vec![first.as_peer()]).unwrap();
    first.tunnel.set_peers(vec![second.as_peer()]).unwrap();
    assert!(second.reaches(&first, 56, PATIENCE));
    nodes = [first, second];
    exchange(&nodes, 1_000_000);
}

#[test]
fn a_stopped_tunnel_leaves_neither_device_nor_port() {
    let [namespace, _other] = connected();
    let tunnel = start(&namespace, SecretKey::generate());
    namespace.run("ip link show wharf1");
    stop(tunnel);
    assert!(!namespace.output("ip link show wharf1").status.success());
    namespace.inside(|| UdpSocket::bind(("0.0.0.0", crate::lab::PORT)).unwrap());
}

#[test]
fn a_device_that_somebody_else_has_is_not_taken() {
    let [namespace, _other] = connected();
    let start = |device: &str| {
        let device = device.to_owned();
        let key = SecretKey::generate();
        let config =
            wharf_tunnel::Config { device, mtu: 1420, key, port: 51821, kernel: wharf_tunnel::Kernel::default() };
        namespace.inside(|| wharf_tunnel::Tunnel::start(config))
    };
    let tunnel = start("wharf1").unwrap();
    assert!(matches!(start("wharf1"), Err(Error::Taken { .. } | Error::Socket { .. })));
    stop(tunnel);
    let taken = start("eth0");
    assert!(matches!(taken, Err(Error::Taken { .. })), "{taken:?}");
    assert!(matches!(start("a/b"), Err(Error::Name { .. })));
    assert!(matches!(start("sixteen-letters-"), Err(Error::Name { .. })));
}

#[test]
fn a_device_that_a_former_process_left_is_taken_over() {
    let [namespace, _other] = connected();
    namespace.run("ip tuntap add dev wharf1 mode tun vnet_hdr");
    let tunnel = start(&namespace, SecretKey::generate());
    assert!(namespace.run("ip link show wharf1").contains("mtu 1420"));
    drop(tunnel);
}

#[test]
fn a_tunnel_whose_device_was_removed_says_so() {
    let [namespace, _other] = connected();
    let tunnel = start(&namespace, SecretKey::generate());
    namespace.run("ip link del wharf1");
    // The thread notices on its own; it takes as long as it takes to be run.
    let noticed = std::iter::repeat_with(|| tunnel.status()).take(1_000_000).any(|status| {
        std::thread::yield_now();
        matches!(status, Err(Error::Gone))
    });
    assert!(noticed);
}
