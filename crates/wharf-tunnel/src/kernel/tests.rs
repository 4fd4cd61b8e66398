use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::Emitable as _;

use super::*;
use crate::key::SecretKey;

fn peer(key: PublicKey, port: u16, prefixes: u32) -> Peer {
    // IPv6 takes the most room.
    let prefix = |index: u32| IpNet::new(Ipv6Addr::from(u128::from(index) << 64).into(), 64).unwrap();
    let endpoint = SocketAddr::from(([192, 0, 2, 1], port));
    Peer { key, endpoint, allowed: (0..prefixes).map(prefix).collect() }
}

fn map(peers: &[Peer]) -> BTreeMap<PublicKey, Option<Peer>> {
    peers.iter().map(|peer| (peer.key, Some(peer.clone()))).collect()
}

fn has(entry: &WireguardPeer, wanted: impl Fn(&WireguardPeerAttribute) -> bool) -> bool {
    entry.iter().any(wanted)
}

#[test]
fn an_unchanged_peer_is_not_told_again_and_a_missing_one_is_removed() {
    let [a, b] = [(); 2].map(|()| peer(SecretKey::generate().public(), 1, 3));
    assert!(changes(&map(std::slice::from_ref(&a)), &map(std::slice::from_ref(&a))).is_empty());
    let messages = changes(&map(&[a.clone(), b.clone()]), &map(&[a]));
    let [removal] = messages.concat().try_into().unwrap();
    assert_eq!(
        removal.0,
        [
            WireguardPeerAttribute::PublicKey(b.key.to_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
        ]
    );
}

#[test]
fn an_endpoint_is_told_only_when_it_changes() {
    let key = SecretKey::generate().public();
    let tells = |known: &Peer, wanted: &Peer| {
        let entries = changes(&map(std::slice::from_ref(known)), &map(std::slice::from_ref(wanted))).concat();
        entries.iter().any(|entry| has(entry, |attribute| matches!(attribute, WireguardPeerAttribute::Endpoint(_))))
    };
    assert!(!tells(&peer(key, 1, 3), &peer(key, 1, 4)));
    assert!(tells(&peer(key, 1, 3), &peer(key, 2, 3)));
}

#[test]
fn a_peer_that_an_earlier_process_left_is_told_in_full() {
    let wanted = peer(SecretKey::generate().public(), 1, 3);
    let entries = changes(&BTreeMap::from([(wanted.key, None)]), &map(&[wanted])).concat();
    assert!(has(&entries[0], |attribute| matches!(attribute, WireguardPeerAttribute::Endpoint(_))));
    assert!(has(&entries[0], |attribute| {
        *attribute == WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps)
    }));
}

#[test]
fn many_prefixes_go_in_messages_that_fit_an_attribute_and_none_is_missing() {
    let peers: Vec<Peer> = [1, 200, 5000, 200].map(|count| peer(SecretKey::generate().public(), 1, count)).into();
    let messages = changes(&BTreeMap::new(), &map(&peers));
    let mut prefixes = 0;
    for message in messages {
        let attribute = WireguardAttribute::Peers(message.clone());
        assert!(std::slice::from_ref(&attribute).buffer_len() < 65536);
        for entry in &message {
            for attribute in entry.iter() {
                if let WireguardPeerAttribute::AllowedIps(allowed) = attribute {
                    prefixes += allowed.len();
                }
            }
        }
    }
    assert_eq!(prefixes, 1 + 200 + 5000 + 200);
}

#[test]
fn a_prefix_is_told_with_its_family() {
    let told = |prefix: &str| allowed(&prefix.parse().unwrap()).0;
    let expected = |family, address: &str, length| {
        let address: IpAddr = address.parse().unwrap();
        let address = WireguardAllowedIpAttr::IpAddr(address);
        vec![WireguardAllowedIpAttr::Family(family), address, WireguardAllowedIpAttr::Cidr(length)]
    };
    assert_eq!(told("10.0.7.9/24"), expected(WireguardAddressFamily::Ipv4, "10.0.7.0", 24));
    assert_eq!(told("fd99:7::9/64"), expected(WireguardAddressFamily::Ipv6, "fd99:7::", 64));
}

#[test]
fn a_peer_that_comes_in_several_parts_is_one() {
    let key = SecretKey::generate().public();
    let endpoint = SocketAddr::from(([192, 0, 2, 1], 7));
    let part = |attributes: Vec<WireguardPeerAttribute>| WireguardMessage {
        cmd: WireguardCmd::SetDevice,
        attributes: vec![WireguardAttribute::Peers(vec![WireguardPeer(attributes)])],
    };
    let time = netlink_packet_wireguard::WireguardTimeSpec { seconds: 1000, nano_seconds: 0 };
    let answers = [
        part(vec![
            WireguardPeerAttribute::PublicKey(key.to_bytes()),
            WireguardPeerAttribute::Endpoint(endpoint),
            WireguardPeerAttribute::LastHandshake(time),
            WireguardPeerAttribute::RxBytes(5),
            WireguardPeerAttribute::TxBytes(6),
        ]),
        part(vec![WireguardPeerAttribute::PublicKey(key.to_bytes()), WireguardPeerAttribute::AllowedIps(Vec::new())]),
    ];
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1007);
    let last_handshake = Some(Duration::from_secs(7));
    assert_eq!(statuses(answers.iter(), now), [PeerStatus { key, endpoint, last_handshake, sent: 6, received: 5 }]);
}
