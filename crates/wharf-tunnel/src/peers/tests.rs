use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

struct Fixture {
    secret: SecretKey,
    limiter: Arc<RateLimiter>,
}

impl Fixture {
    fn new() -> Fixture {
        let secret = SecretKey::generate();
        let limiter = Arc::new(RateLimiter::new(&secret.public().to_dalek(), 10));
        Fixture { secret, limiter }
    }

    fn replaced(&self, peers: &Peers, wanted: &[Peer]) -> (Peers, Vec<Arc<Node>>) {
        peers.replaced(wanted, &self.secret, &self.limiter)
    }
}

fn peer(key: PublicKey, port: u16, allowed: &[&str]) -> Peer {
    let allowed = allowed.iter().map(|prefix| prefix.parse().unwrap()).collect();
    Peer { key, endpoint: SocketAddr::from(([192, 0, 2, 1], port)), allowed }
}

fn keys<const COUNT: usize>() -> [PublicKey; COUNT] {
    [(); COUNT].map(|()| SecretKey::generate().public())
}

#[test]
fn the_longest_prefix_decides() {
    let fixture = Fixture::new();
    let [wide, narrow] = keys();
    let wanted = [
        peer(narrow, 1, &["10.0.7.0/24", "fd99:7::/32"]),
        peer(wide, 1, &["10.0.0.0/8", "192.168.0.1/32", "fd00::1/8", "2001:db8::1/128"]),
    ];
    let (peers, _) = fixture.replaced(&Peers::default(), &wanted);
    let owner = |address: &str| peers.by_address(address.parse().unwrap()).map(|node| node.key);
    assert_eq!(owner("10.0.7.1"), Some(narrow));
    assert_eq!(owner("10.0.8.1"), Some(wide));
    assert_eq!(owner("192.168.0.1"), Some(wide));
    assert_eq!(owner("192.168.0.2"), None);
    assert_eq!(owner("fd99:7:ffff::1"), Some(narrow));
    assert_eq!(owner("fd99:8::1"), Some(wide));
    assert_eq!(owner("2001:db8::1"), Some(wide));
    assert_eq!(owner("2001:db8::2"), None);
    assert_eq!(owner("::ffff:10.0.7.1"), None, "the two families have nothing in common");
}

#[test]
fn what_one_family_is_sent_to_in_whole_gets_nothing_of_the_other() {
    let fixture = Fixture::new();
    let [four, six] = keys();
    let wanted = [peer(four, 1, &["0.0.0.0/0"]), peer(six, 1, &["::/0"])];
    let (peers, _) = fixture.replaced(&Peers::default(), &wanted);
    let owner = |address: IpAddr| peers.by_address(address).map(|node| node.key);
    assert_eq!(owner(Ipv4Addr::new(10, 0, 0, 1).into()), Some(four));
    assert_eq!(owner(Ipv6Addr::LOCALHOST.into()), Some(six));
}

#[test]
fn who_stays_keeps_its_sessions_and_where_it_moved_to() {
    let fixture = Fixture::new();
    let [stays, goes, comes] = keys();
    let (before, _) =
        fixture.replaced(&Peers::default(), &[peer(stays, 1, &["10.0.0.0/24"]), peer(goes, 1, &["10.0.1.0/24"])]);
    let node = Arc::clone(before.by_key(stays).unwrap());
    let moved = SocketAddr::from(([192, 0, 2, 9], 9));
    node.link.lock().endpoint = moved;

    let (after, new) = fixture.replaced(&before, &[peer(stays, 1, &["10.0.5.0/24"]), peer(comes, 1, &["10.0.1.0/24"])]);
    assert!(Arc::ptr_eq(after.by_key(stays).unwrap(), &node));
    assert_eq!(node.link.lock().endpoint, moved);
    assert_eq!(new.iter().map(|node| node.key).collect::<Vec<_>>(), [comes]);
    assert!(after.by_key(goes).is_none());
    assert!(after.by_address(Ipv4Addr::new(10, 0, 0, 1).into()).is_none());
    assert!(after.by_session(before.by_key(goes).unwrap().number << SESSION_BITS).is_none());
    assert!(Arc::ptr_eq(after.by_session(node.number << SESSION_BITS | 5).unwrap(), &node));

    fixture.replaced(&after, &[peer(stays, 2, &[])]);
    assert_eq!(node.link.lock().endpoint.port(), 2);
}

#[test]
fn a_nodes_own_key_is_passed_over() {
    let fixture = Fixture::new();
    let (peers, new) = fixture.replaced(&Peers::default(), &[peer(fixture.secret.public(), 1, &["10.0.0.0/24"])]);
    assert!(new.is_empty() && peers.iter().next().is_none());
}

#[test]
fn a_thousand_peers_with_two_hundred_prefixes_each_are_found_by_each_address() {
    let fixture = Fixture::new();
    // By turns of IPv4 and of IPv6.
    let address = |index: u32, host: u32| match index % 2 {
        0 => IpAddr::from(Ipv4Addr::from(0x0a00_0000 + index * 16 + host)),
        _ => IpAddr::from(Ipv6Addr::from((0xfd99 << 112) + (u128::from(index) << 64) + u128::from(host))),
    };
    let prefix = |index: u32| IpNet::new(address(index, 0), if index.is_multiple_of(2) { 28 } else { 64 }).unwrap();
    let wanted: Vec<Peer> = (0..1000u32)
        .map(|index| Peer {
            allowed: (0..200).map(|part| prefix(index * 200 + part)).collect(),
            ..peer(SecretKey::generate().public(), 1, &[])
        })
        .collect();
    let (peers, new) = fixture.replaced(&Peers::default(), &wanted);
    assert_eq!(new.len(), 1000);
    for index in 0..200_000 {
        let owner = peers.by_address(address(index, index % 16)).unwrap();
        assert_eq!(owner.key, wanted[index as usize / 200].key);
    }
}
