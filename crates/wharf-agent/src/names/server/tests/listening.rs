use std::time::Duration;

use super::{fake::PORT, *};
use crate::names::testing::ip;

async fn until(bound: Duration, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(bound, waiting).await.unwrap();
}

#[tokio::test]
async fn a_taken_address_is_reported_and_had_once_it_is_free() {
    let place = Place::new();
    let other = std::net::UdpSocket::bind((place.address(253), PORT)).unwrap();
    let server = place.server(&[]);
    server.listen_on([place.address(253), place.address(254)].into());
    let problems = server.problems();
    assert_eq!(problems.keys().copied().collect::<Vec<_>>(), [place.address(253)]);
    let text = &problems[&place.address(253)];
    assert!(text.contains("taken by another DNS server") && text.contains("UDP") && !text.contains("TCP"), "{text}");
    let message = place.client(1).udp(&question(1, "web", RecordType::A, None)).await;
    assert_eq!(message.answers.len(), 1, "the others are not held up");
    drop(other);
    until(fake::BOUND, || server.problems().is_empty()).await;
}

#[tokio::test]
async fn an_address_that_is_not_there_yet_can_be_listened_on() {
    let place = Place::new();
    let server = place.server(&[]);
    server.listen_on([ip("192.0.2.53"), ip("2001:db8::53")].into());
    assert_eq!(server.problems(), BTreeMap::new());
}

#[tokio::test]
async fn an_address_that_is_no_longer_wanted_is_free_again() {
    let place = Place::new();
    let server = place.server(&[]);
    let free = || {
        std::net::UdpSocket::bind((place.address(254), PORT)).is_ok()
            && std::net::TcpListener::bind((place.address(254), PORT)).is_ok()
    };
    assert!(!free());
    server.listen_on(BTreeSet::new());
    until(fake::BOUND, free).await;
    server.listen_on([place.address(254)].into());
    until(fake::BOUND, || server.problems().is_empty()).await;
    server.stop().await;
    assert!(free());
}

#[tokio::test]
async fn ipv6_is_served_too() {
    let place = Place::new();
    place.put('6', "six", &[ip("::1")], &[]);
    let server = place.server(&[]);
    let taken = std::net::UdpSocket::bind("[::1]:0").unwrap();
    // A port that was free a moment ago, for the host has only one such address.
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    drop(server);
    let server = Server::start(place.table.clone(), Config { port, upstream_port: fake::UPSTREAM_PORT });
    server.listen_on([ip("::1")].into());
    assert_eq!(server.problems(), BTreeMap::new());
    let socket = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
    socket.send_to(&question(1, "six", RecordType::AAAA, None), ("::1", port)).await.unwrap();
    let mut buffer = [0; 512];
    let length = tokio::time::timeout(fake::BOUND, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(addresses(&Message::from_vec(&buffer[..length]).unwrap()), [ip("::1")]);
}
