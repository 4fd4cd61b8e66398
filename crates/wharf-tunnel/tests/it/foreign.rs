//! Between a tunnel and somebody who speaks WireGuard, but does as it likes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use wharf_tunnel::{Peer, PublicKey, SecretKey};

use crate::lab::{Namespace, Node, PORT};

const PATIENCE: Duration = Duration::from_secs(30);
/// Where the node's own program listens.
const INNER_PORT: u16 = 7000;
/// The numbers of protocols.
const UDP: u8 = 17;
const ICMP6: u8 = 58;
/// The node's addresses in the tunnel.
const NODE4: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

/// Somebody with a key and a socket on the node's own machine.
struct Stranger {
    tunn: Tunn,
    socket: UdpSocket,
}

impl Stranger {
    fn new(node: &Node, secret: &SecretKey, to: PublicKey, port: u16) -> Stranger {
        let socket = node.namespace.inside(move || UdpSocket::bind(("127.0.0.1", port)).unwrap());
        socket.connect(("127.0.0.1", PORT)).ok();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tunn = Tunn::new(secret.to_bytes().into(), to.to_bytes().into(), None, None, 1, None);
        Stranger { tunn, socket }
    }

    fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = [0; 200];
        match self.tunn.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Agrees on keys.
    fn shake_hands(&mut self) {
        let initiation = self.initiation();
        self.send(&initiation);
        let (mut response, mut keepalive) = ([0; 2000], [0; 2000]);
        // The node may have begun a handshake of its own.
        loop {
            let length = self.socket.recv(&mut response).unwrap();
            if let TunnResult::WriteToNetwork(answer) = self.tunn.decapsulate(None, &response[..length], &mut keepalive)
            {
                self.socket.send(answer).unwrap();
                if response[0] == 2 {
                    return;
                }
            }
        }
    }

    /// A datagram with a packet in it.
    fn sealed(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; packet.len() + 200];
        match self.tunn.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).unwrap();
    }

    /// The next packet that comes out of the tunnel at this end.
    fn receive(&mut self) -> Vec<u8> {
        let (mut datagram, mut opened) = ([0; 2000], [0; 2000]);
        loop {
            let length = self.socket.recv(&mut datagram).unwrap();
            match self.tunn.decapsulate(None, &datagram[..length], &mut opened) {
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    return packet.to_vec();
                }
                TunnResult::WriteToNetwork(answer) => drop(self.socket.send(answer)),
                _ => {}
            }
        }
    }
}

/// The one's complement sum of RFC 1071 over bytes and a number.
fn sum(bytes: &[u8], number: u32) -> u16 {
    let sum = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum = sum.sum::<u32>() + number;
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A UDP packet to the node's program.
fn packet(source: impl Into<IpAddr>, text: &str) -> Vec<u8> {
    let head = [9000, INNER_PORT, (8 + text.len()) as u16, 0].map(u16::to_be_bytes).concat();
    carrying(source.into(), UDP, [head, text.as_bytes().to_vec()].concat(), 6)
}

/// A packet to the node with a part of `protocol`, whose checksum belongs at `checksum`.
fn carrying(source: IpAddr, protocol: u8, mut part: Vec<u8>, checksum: usize) -> Vec<u8> {
    let length = part.len() as u16;
    let (header, addresses) = match source {
        IpAddr::V4(source) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
            header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            let addresses = [source.octets(), NODE4.octets()].concat();
            let checksum = !sum(&[header.clone(), addresses.clone()].concat(), 0);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            (header, addresses)
        }
        IpAddr::V6(source) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            header[4..6].copy_from_slice(&length.to_be_bytes());
            (header, [source.octets(), NODE6.octets()].concat())
        }
    };
    let whole = !sum(&[addresses.clone(), part.clone()].concat(), u32::from(protocol) + u32::from(length));
    part[checksum..checksum + 2].copy_from_slice(&whole.to_be_bytes());
    [header, addresses, part].concat()
}

/// A node, its program's socket, and a peer of it that may send from 10.99.2.0/24 and fd99::2:0/112.
fn fixture() -> (Node, UdpSocket, Stranger, SecretKey) {
    let node = Node::start(Namespace::new(), IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    let program = program(&node, NODE4);
    let secret = SecretKey::generate();
    let peer = Stranger::new(&node, &secret, node.key, 40001);
    let allowed = ["10.99.2.0/24", "fd99::2:0/112"].map(|prefix| prefix.parse().unwrap()).to_vec();
    let endpoint = "127.0.0.1:40001".parse().unwrap();
    node.tunnel.set_peers(vec![Peer { key: secret.public(), endpoint, allowed }]).unwrap();
    (node, program, peer, secret)
}

/// The socket of a program at an address of a node.
fn program(node: &Node, address: impl Into<IpAddr>) -> UdpSocket {
    let address = (address.into(), INNER_PORT);
    let program = node.namespace.inside(move || UdpSocket::bind(address).unwrap());
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    program
}

fn heard(program: &UdpSocket) -> String {
    let mut text = [0; 100];
    let length = program.recv(&mut text).unwrap();
    String::from_utf8(text[..length].to_vec()).unwrap()
}

#[test]
fn a_packet_from_an_address_that_is_not_the_peers_is_dropped() {
    let (_node, program, mut peer, _) = fixture();
    peer.shake_hands();
    for (source, text) in [([10, 99, 3, 1], "forged"), ([10, 99, 1, 1], "forged too"), ([10, 99, 2, 9], "true")] {
        let datagram = peer.sealed(&packet(source, text));
        peer.send(&datagram);
    }
    assert_eq!(heard(&program), "true");
}

#[test]
fn a_packet_from_an_ipv6_address_that_is_not_the_peers_is_dropped() {
    let (node, _program, mut peer, _) = fixture();
    let program = program(&node, NODE6);
    peer.shake_hands();
    for (source, text) in [("fd99::3:1", "forged"), ("fd99::1", "forged too"), ("fd99::2:9", "true")] {
        let datagram = peer.sealed(&packet(source.parse::<IpAddr>().unwrap(), text));
        peer.send(&datagram);
    }
    assert_eq!(heard(&program), "true");
}

#[test]
fn a_malformed_packet_from_a_peer_does_no_harm() {
    let (_node, program, mut peer, _) = fixture();
    peer.shake_hands();
    let whole = packet([10, 99, 2, 1], "alive");
    let whole6 = packet("fd99::2:1".parse::<IpAddr>().unwrap(), "malformed");
    let mut malformed: Vec<Vec<u8>> = (1..whole6.len()).map(|length| whole6[..length].to_vec()).collect();
    malformed.extend((1..whole.len()).map(|length| whole[..length].to_vec()));
    malformed
        .extend((0..16).filter(|version| *version != 4).map(|version| [vec![version << 4], vec![0; 100]].concat()));
    for packet in malformed {
        let datagram = peer.sealed(&packet);
        peer.send(&datagram);
    }
    let datagram = peer.sealed(&whole);
    peer.send(&datagram);
    assert_eq!(heard(&program), "alive");
}

#[test]
fn a_repeated_datagram_is_dropped() {
    let (_node, program, mut peer, _) = fixture();
    peer.shake_hands();
    let [once, after] = ["once", "after"].map(|text| peer.sealed(&packet([10, 99, 2, 1], text)));
    peer.send(&once);
    assert_eq!(heard(&program), "once");
    peer.send(&once);
    peer.send(&after);
    assert_eq!(heard(&program), "after");
}

#[test]
fn a_changed_datagram_is_dropped() {
    let (_node, program, mut peer, _) = fixture();
    peer.shake_hands();
    let [mut changed, after] = ["changed", "after"].map(|text| peer.sealed(&packet([10, 99, 2, 1], text)));
    changed[30] ^= 1;
    peer.send(&changed);
    peer.send(&after);
    assert_eq!(heard(&program), "after");
}

#[test]
fn who_has_another_key_gets_no_answer_and_nothing_in() {
    let (node, program, mut peer, _) = fixture();
    let mut unknown = Stranger::new(&node, &SecretKey::generate(), node.key, 40002);
    let initiation = unknown.initiation();
    unknown.send(&initiation);
    peer.shake_hands();
    let datagram = peer.sealed(&packet([10, 99, 2, 1], "true"));
    // The session's number is no secret; without its keys it is of no use.
    let mut forged = datagram.clone();
    forged[20..].fill(7);
    unknown.send(&forged);
    peer.send(&datagram);
    assert_eq!(heard(&program), "true");
    // The node took the messages in order, so an answer would be there by now.
    unknown.socket.set_nonblocking(true).unwrap();
    assert!(unknown.socket.recv(&mut [0; 200]).is_err());
}

#[test]
fn a_peer_is_followed_to_where_its_authentic_packets_come_from_and_by_no_others() {
    let (node, program, mut peer, _) = fixture();
    peer.shake_hands();
    let [first, second] = ["first", "second"].map(|text| peer.sealed(&packet([10, 99, 2, 1], text)));
    let endpoint = || node.tunnel.status().unwrap()[0].endpoint.port();
    peer.send(&first);
    assert_eq!(heard(&program), "first");
    let elsewhere = Stranger::new(&node, &SecretKey::generate(), node.key, 40003);
    // A repetition, a forgery.
    elsewhere.send(&first);
    let mut forged = second.clone();
    forged[20..].fill(7);
    elsewhere.send(&forged);
    let third = peer.sealed(&packet([10, 99, 2, 1], "third"));
    peer.send(&third);
    assert_eq!(heard(&program), "third");
    assert_eq!(endpoint(), 40001);
    elsewhere.send(&second);
    assert_eq!(heard(&program), "second");
    assert_eq!(endpoint(), 40003);
    program.send_to(b"answer", "10.99.2.1:9000").unwrap();
    peer.socket = elsewhere.socket;
    assert!(peer.receive().ends_with(b"answer"));
}

#[test]
fn garbage_of_every_length_and_kind_does_no_harm() {
    let (_node, program, mut peer, _) = fixture();
    peer.shake_hands();
    for kind in 0..6u8 {
        for length in (0..200).chain([1452, 9000, 65507]) {
            let mut datagram = vec![0; length];
            datagram.iter_mut().zip([kind]).for_each(|(to, from)| *to = from);
            peer.send(&datagram);
        }
    }
    // What overflowed the socket's buffer took nothing else along.
    let datagrams: Vec<_> = (0..3).map(|_| peer.sealed(&packet([10, 99, 2, 1], "alive"))).collect();
    datagrams.iter().for_each(|datagram| peer.send(datagram));
    assert_eq!(heard(&program), "alive");
}

#[test]
fn what_a_peer_receives_are_plain_valid_packets() {
    let (node, program, mut peer, _) = fixture();
    peer.shake_hands();
    let datagram = peer.sealed(&packet([10, 99, 2, 1], "hello"));
    peer.send(&datagram);
    assert_eq!(heard(&program), "hello");
    program.send_to(&[7; 1000], "10.99.2.1:9000").unwrap();
    let received = peer.receive();
    assert_eq!(received.len(), 1028);
    assert_eq!(sum(&received[..20], 0), 0xffff);
    assert_eq!(sum(&received[12..], u32::from(UDP) + 1008), 0xffff, "the checksum was computed, not left to be done");
    let program = self::program(&node, NODE6);
    program.send_to(&[7; 1000], "[fd99::2:1]:9000").unwrap();
    let received = peer.receive();
    assert_eq!(received.len(), 1048);
    assert_eq!(sum(&received[8..], u32::from(UDP) + 1008), 0xffff, "so it was with IPv6");
}

#[test]
fn an_echo_by_icmpv6_is_answered() {
    let (_node, _program, mut peer, _) = fixture();
    peer.shake_hands();
    let source = "fd99::2:1".parse().unwrap();
    let datagram = peer.sealed(&carrying(source, ICMP6, vec![128, 0, 0, 0, 1, 2, 3, 4, 5, 6], 2));
    peer.send(&datagram);
    let received = peer.receive();
    assert_eq!((received[6], received[40]), (ICMP6, 129));
    assert_eq!(received[44..], [1, 2, 3, 4, 5, 6]);
}
