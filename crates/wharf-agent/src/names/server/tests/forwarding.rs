use std::{sync::mpsc, time::Duration};

use super::*;
use crate::names::testing::{denying, failing, ip, truncated};

fn one(asked: &[u8]) -> Vec<u8> {
    answer(asked, &[([192, 0, 2, 1].into(), 300)])
}

#[tokio::test]
async fn an_unknown_name_is_asked_for_outside_once_and_kept() {
    let place = Place::new();
    let upstream = Upstream::answering(place.address(100), |asked, _| Some(one(asked)));
    let server = place.server(&[upstream.address]);
    let client = place.client(1);
    for (id, name) in [(1, "example.com"), (2, "EXAMPLE.com")] {
        let message = client.udp(&question(id, name, RecordType::A, None)).await;
        assert_eq!((message.metadata.id, addresses(&message)), (id, vec![ip("192.0.2.1")]));
        assert_eq!(message.queries[0].name().to_ascii(), format!("{name}."));
        assert!(!message.metadata.authoritative);
    }
    assert_eq!(addresses(&client.tcp("example.com", RecordType::A).await), [ip("192.0.2.1")]);
    assert_eq!(upstream.asked(), 1);
    let stats = server.stats();
    assert_eq!((stats.forwarded, stats.cache_hits, stats.failures), (1, 2, 0));
    client.udp(&question(3, "example.com", RecordType::AAAA, None)).await;
    assert_eq!(upstream.asked(), 2, "another type is another question");
}

#[tokio::test]
async fn no_such_name_is_kept_as_well() {
    let place = Place::new();
    let upstream = Upstream::answering(place.address(100), |asked, _| Some(denying(asked, 300, 30)));
    let _server = place.server(&[upstream.address]);
    let client = place.client(1);
    for _ in 0..2 {
        let message = client.udp(&question(1, "missing.example", RecordType::A, None)).await;
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(message.authorities.len(), 1);
    }
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn the_second_is_asked_when_the_first_is_silent_and_then_at_once() {
    let place = Place::new();
    let silent = Upstream::answering(place.address(100), |_, _| None);
    let upstream = Upstream::answering(place.address(101), |asked, _| Some(one(asked)));
    let _server = place.server(&[silent.address, upstream.address]);
    let client = place.client(1);
    let started = Instant::now();
    assert_eq!(client.udp(&question(1, "a.example", RecordType::A, None)).await.answers.len(), 1);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let before = silent.asked();
    assert_eq!(client.udp(&question(1, "b.example", RecordType::A, None)).await.answers.len(), 1);
    assert_eq!(silent.asked(), before);
}

#[tokio::test]
async fn those_that_decline_or_are_not_there_are_passed_over_at_once() {
    let place = Place::new();
    let codes = [ResponseCode::ServFail, ResponseCode::Refused];
    let [failing, refusing] = [0, 1].map(|number| {
        let address = place.address(100 + u8::try_from(number).unwrap());
        Upstream::answering(address, move |asked, _| Some(failing(asked, codes[number])))
    });
    let upstream = Upstream::answering(place.address(102), |asked, _| Some(one(asked)));
    let server = place.server(&[failing.address, refusing.address, upstream.address]);
    let client = place.client(1);
    let started = Instant::now();
    assert_eq!(client.udp(&question(1, "a.example", RecordType::A, None)).await.answers.len(), 1);
    server.set_upstreams(vec![place.address(103), upstream.address]);
    assert_eq!(client.udp(&question(1, "b.example", RecordType::A, None)).await.answers.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn when_nobody_answers_it_is_a_failure_without_authority() {
    let place = Place::new();
    let silent = Upstream::answering(place.address(100), |_, _| None);
    let server = place.server(&[]);
    let client = place.client(1);
    for upstreams in [vec![], vec![place.address(101)], vec![silent.address]] {
        server.set_upstreams(upstreams);
        let message = client.udp(&question(1, "a.example", RecordType::A, None)).await;
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
        assert!(!message.metadata.authoritative);
    }
    assert_eq!(server.stats().failures, 3);
    assert!((3..=4).contains(&silent.asked()), "it was sent again: {}", silent.asked());
}

#[tokio::test]
async fn a_containers_own_name_servers_are_asked_instead() {
    let place = Place::new();
    let host = Upstream::answering(place.address(100), |asked, _| Some(one(asked)));
    let own = Upstream::answering(place.address(101), |asked, _| Some(answer(asked, &[([192, 0, 2, 2].into(), 300)])));
    let _server = place.server(&[host.address]);
    place.put_with_upstreams('3', 3, &[own.address]);
    for _ in 0..2 {
        let message = place.client(1).udp(&question(1, "a.example", RecordType::A, None)).await;
        assert_eq!(addresses(&message), [ip("192.0.2.1")]);
        let message = place.client(3).udp(&question(1, "a.example", RecordType::A, None)).await;
        assert_eq!(addresses(&message), [ip("192.0.2.2")]);
    }
    assert_eq!((host.asked(), own.asked()), (1, 1));
}

#[tokio::test]
async fn what_a_datagram_cannot_hold_comes_by_tcp() {
    let place = Place::new();
    let all: Vec<_> = (0..100).map(|host| ([192, 0, 2, host].into(), 300)).collect();
    let upstream = Upstream::answering(place.address(100), move |asked, transport| match transport {
        Transport::Udp => Some(truncated(asked)),
        Transport::Tcp => Some(answer(asked, &all)),
    });
    let _server = place.server(&[upstream.address]);
    let client = place.client(1);
    let cut = client.udp(&question(1, "big.example", RecordType::A, None)).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(client.tcp("big.example", RecordType::A).await.answers.len(), 100);
    // Now it is known, and cut here.
    let cut = client.udp(&question(1, "big.example", RecordType::A, None)).await;
    assert!(cut.metadata.truncation && (20..100).contains(&cut.answers.len()), "{}", cut.answers.len());
    let whole = client.udp(&question(1, "big.example", RecordType::A, Some(4096))).await;
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 100));
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test]
async fn a_server_from_before_edns_is_asked_without() {
    let place = Place::new();
    let upstream = Upstream::answering(place.address(100), |asked, _| {
        let has_edns = Message::from_vec(asked).unwrap().edns.is_some();
        Some(if has_edns { failing(asked, ResponseCode::FormErr) } else { one(asked) })
    });
    let _server = place.server(&[upstream.address]);
    let message = place.client(1).udp(&question(1, "a.example", RecordType::A, Some(1232))).await;
    assert_eq!(addresses(&message), [ip("192.0.2.1")]);
}

#[tokio::test]
async fn answers_to_other_questions_are_not_believed() {
    let place = Place::new();
    let upstream = Upstream::answering_all(place.address(100), |asked, _| {
        let false_address = [([203, 0, 113, 66].into(), 300)];
        let mut other_id = answer(asked, &false_address);
        other_id[0] ^= 1;
        let other_name = answer(
            &question(u16::from_be_bytes([asked[0], asked[1]]), "b.example", RecordType::A, None),
            &false_address,
        );
        vec![other_id, other_name, b"noise".to_vec(), asked.to_vec(), one(asked)]
    });
    let _server = place.server(&[upstream.address]);
    let message = place.client(1).udp(&question(1, "a.example", RecordType::A, None)).await;
    assert_eq!(addresses(&message), [ip("192.0.2.1")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_questions_at_once_are_asked_once() {
    const CLIENTS: u16 = 30;
    let place = Place::new();
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::answering(place.address(100), move |asked, _| {
        // Answers only once the test says so, which is when all have asked.
        tokio::task::block_in_place(|| held.lock().unwrap().recv()).unwrap();
        Some(one(asked))
    });
    let server = place.server(&[upstream.address]);
    let client = place.client(1);
    for id in 0..CLIENTS {
        client.send(&question(id, if id % 2 == 0 { "a.example" } else { "A.Example" }, RecordType::A, None)).await;
    }
    let all_asked = async {
        while server.stats().queries < u64::from(CLIENTS) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(fake::BOUND, all_asked).await.unwrap();
    // Should the question have been sent again meanwhile, that one is let go as well.
    (0..4).for_each(|_| release.send(()).unwrap());
    let mut answered = BTreeSet::new();
    for _ in 0..CLIENTS {
        let message = client.receive().await;
        assert_eq!(addresses(&message), [ip("192.0.2.1")]);
        answered.insert(message.metadata.id);
    }
    assert_eq!(answered.len(), usize::from(CLIENTS));
    assert_eq!(server.stats().forwarded, 1);
}

#[tokio::test]
async fn we_never_ask_ourselves() {
    let place = Place::new();
    let server = Server::start(place.table.clone(), Config { port: fake::PORT, upstream_port: fake::PORT });
    server.listen_on([place.address(254)].into());
    server.set_upstreams(vec![place.address(254), ip("0.0.0.0"), ip("224.0.0.251")]);
    let message = place.client(1).udp(&question(1, "a.example", RecordType::A, None)).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!((server.stats().queries, server.stats().forwarded), (1, 0));
}
