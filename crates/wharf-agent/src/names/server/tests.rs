mod fake;
mod forwarding;
mod limits;
mod listening;

use hickory_proto::{
    op::Message,
    rr::{RData, RecordType},
};

use self::fake::{Place, Upstream};
use super::*;
use crate::names::testing::{answer, question};

/// The addresses in an answer, sorted.
fn addresses(message: &Message) -> Vec<IpAddr> {
    let mut addresses: Vec<_> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect();
    addresses.sort();
    addresses
}

#[tokio::test]
async fn a_known_name_is_answered_with_authority_by_udp_and_tcp() {
    let place = Place::new();
    let server = place.server(&[]);
    let client = place.client(1);
    for message in [client.udp(&question(7, "WEB", RecordType::A, None)).await, client.tcp("WEB", RecordType::A).await]
    {
        assert_eq!(addresses(&message), [place.address(2)]);
        assert!(message.metadata.authoritative && message.metadata.recursion_available);
        assert_eq!(message.queries[0].name().to_ascii(), "WEB.");
        assert_eq!(message.answers[0].ttl, 1);
        assert!(message.edns.is_none());
    }
    assert_eq!((server.stats().queries, server.stats().answered), (2, 2));
}

#[tokio::test]
async fn a_name_that_went_is_denied_with_authority_and_a_missing_family_is_not() {
    let place = Place::new();
    let _server = place.server(&[]);
    let client = place.client(1);
    let message = client.udp(&question(7, "web", RecordType::AAAA, None)).await;
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(message.metadata.authoritative && message.answers.is_empty());
    place.table.drop_container(&"2".repeat(64), Instant::now());
    let message = client.udp(&question(7, "web", RecordType::A, None)).await;
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert!(message.metadata.authoritative);
}

#[tokio::test]
async fn a_stranger_is_refused_whatever_it_asks() {
    let place = Place::new();
    let upstream = Upstream::answering(place.address(100), |asked, _| Some(answer(asked, &[])));
    let server = place.server(&[upstream.address]);
    let client = place.client(99);
    for name in ["web", "example.com"] {
        let message = client.udp(&question(7, name, RecordType::A, None)).await;
        assert_eq!(message.metadata.response_code, ResponseCode::Refused);
        assert!(!message.metadata.authoritative);
        assert_eq!(client.tcp(name, RecordType::A).await.metadata.response_code, ResponseCode::Refused);
    }
    assert_eq!((upstream.asked(), server.stats().refused), (0, 4));
}

#[tokio::test]
async fn edns_is_answered_with_edns() {
    let place = Place::new();
    let upstream =
        Upstream::answering(place.address(100), |asked, _| Some(answer(asked, &[([192, 0, 2, 1].into(), 9)])));
    let _server = place.server(&[upstream.address]);
    let client = place.client(1);
    for name in ["web", "example.com", "unknown.example", "example.com"] {
        let plain = client.udp(&question(7, name, RecordType::A, None)).await;
        assert!(plain.edns.is_none(), "{name}");
        let with = client.udp(&question(7, name, RecordType::A, Some(1400))).await;
        assert!(with.edns.is_some(), "{name}");
        assert_eq!(addresses(&plain), addresses(&with));
    }
    let mut newer = question(7, "web", RecordType::A, Some(1400));
    let version_at = newer.len() - 5;
    newer[version_at] = 1;
    let refused = client.udp(&newer).await.metadata.response_code;
    assert_eq!(u16::from(refused), u16::from(ResponseCode::BADVERS));
}

#[tokio::test]
async fn many_replicas_are_cut_to_some_and_all_tasks_are_had_by_tcp() {
    let place = Place::new();
    let _server = place.server(&[]);
    for number in 0..60u8 {
        place.put(
            char::from(b'a' + number % 6),
            &format!("replica-{number}"),
            &[place.address(10 + number)],
            &["many"],
        );
    }
    let client = place.client(1);
    let some = client.udp(&question(7, "many", RecordType::A, None)).await;
    assert_eq!((some.answers.len(), some.metadata.truncation), (8, false));
    let other = client.udp(&question(7, "many", RecordType::A, None)).await;
    assert_ne!(addresses(&some), addresses(&other), "another choice each time");
    let all = client.udp(&question(7, "many", RecordType::A, Some(1232))).await;
    assert_eq!((all.answers.len(), all.metadata.truncation), (60, false));
    let tasks = client.udp(&question(7, "tasks.many", RecordType::A, None)).await;
    assert!(tasks.metadata.truncation && (20..60).contains(&tasks.answers.len()), "{}", tasks.answers.len());
    let tasks = client.udp(&question(7, "tasks.many", RecordType::A, Some(600))).await;
    assert!(tasks.metadata.truncation && tasks.edns.is_some());
    assert_eq!(client.tcp("tasks.many", RecordType::A).await.answers.len(), 60);
    let services = client.tcp("_80._tcp.many", RecordType::SRV).await;
    assert_eq!((services.answers.len(), services.additionals.len()), (60, 60));
    let services = client.udp(&question(7, "_80._tcp.many", RecordType::SRV, None)).await;
    assert_eq!((services.answers.len(), services.metadata.truncation), (8, false));
}

#[tokio::test]
async fn what_makes_no_sense_is_told_so_or_ignored() {
    let place = Place::new();
    let server = place.server(&[]);
    let client = place.client(1);
    let good = question(7, "web", RecordType::A, None);
    let mut two_questions = good.clone();
    two_questions[5] = 2;
    let mut status = good.clone();
    status[2] = 0x10;
    let mut compressed = good[..12].to_vec();
    compressed.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    for (bytes, code) in [
        (&good[..good.len() - 1], ResponseCode::FormErr),
        (&good[..12], ResponseCode::FormErr),
        (&two_questions, ResponseCode::FormErr),
        (&compressed, ResponseCode::FormErr),
        (&status, ResponseCode::NotImp),
    ] {
        let message = client.udp(bytes).await;
        assert_eq!((message.metadata.id, message.metadata.response_code), (7, code));
    }
    let mut response = good.clone();
    response[2] |= 0x80;
    for bytes in [&response[..], &good[..11], b"", &[0; 5000]] {
        client.send(bytes).await;
    }
    // Whatever is answered first is not to these.
    assert_eq!(addresses(&client.udp(&good).await), [place.address(2)]);
    assert_eq!(server.stats().malformed, 8);
}
