use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use proptest::prelude::*;

use super::*;
use crate::names::testing::{answer, denying, failing, parsed, query, question, truncated};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn key(query: &Query) -> Key {
    Key::new(query, Arc::new([]))
}

/// What is made of the answer to a question for A of `a.example`.
fn read(respond: impl Fn(&[u8]) -> Vec<u8>) -> Result<Reply, Unusable> {
    let key = key(&query("a.example"));
    Reply::read(&respond(&key.outgoing(9, true)), 9, &key)
}

fn seconds(respond: impl Fn(&[u8]) -> Vec<u8>) -> Option<u64> {
    read(respond).unwrap().life.map(|life| life.as_secs())
}

/// The answer that `respond` made, changed.
fn edited(bytes: &[u8], edit: impl Fn(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(bytes).unwrap();
    edit(&mut message);
    message.to_vec().unwrap()
}

fn alias(ttl: u32) -> Record {
    let target = Name::from_ascii("b.example.").unwrap();
    Record::from_rdata(Name::from_ascii("a.example.").unwrap(), ttl, RData::CNAME(CNAME(target)))
}

#[test]
fn answers_live_as_long_as_their_shortest_record() {
    assert_eq!(seconds(|asked| answer(asked, &[(ADDRESS, 300), (ADDRESS, 60)])), Some(60));
    assert_eq!(seconds(|asked| answer(asked, &[(ADDRESS, 0)])), None);
    assert_eq!(seconds(|asked| answer(asked, &[(ADDRESS, 900_000)])), Some(LIFE_MOST.as_secs()));
    assert_eq!(seconds(|asked| answer(asked, &[(ADDRESS, 0x8000_0001)])), None);
    let with_alias =
        |ttl| seconds(|asked| edited(&answer(asked, &[(ADDRESS, 50)]), |it| it.answers.insert(0, alias(ttl))));
    assert_eq!((with_alias(40), with_alias(70)), (Some(40), Some(50)));
    assert_eq!(seconds(truncated), None);
}

#[test]
fn denials_live_as_long_as_their_zone_says() {
    assert_eq!(seconds(|asked| denying(asked, 50, 20)), Some(20));
    assert_eq!(seconds(|asked| denying(asked, 20, 50)), Some(20));
    assert_eq!(seconds(|asked| denying(asked, 9000, 9000)), Some(NEGATIVE_LIFE_MOST.as_secs()));
    assert_eq!(seconds(|asked| edited(&denying(asked, 50, 20), |it| it.authorities.clear())), None);
    // An alias that leads nowhere denies as well.
    let dangling = |ttl| seconds(|asked| edited(&denying(asked, 50, 20), |it| it.answers.push(alias(ttl))));
    assert_eq!((dangling(10), dangling(30)), (Some(10), Some(20)));
    // No data of that type.
    let empty = |asked: &[u8]| edited(&denying(asked, 50, 20), |it| it.metadata.response_code = Default::default());
    assert_eq!(seconds(empty), Some(20));
    assert_eq!(seconds(|asked| answer(asked, &[])), None);
}

#[test]
fn what_answers_nothing_is_told_apart() {
    use hickory_proto::op::ResponseCode;
    let refused = read(|asked| failing(asked, ResponseCode::Refused));
    assert_eq!(refused.unwrap_err(), Unusable::Declined(5));
    let short = read(|asked| {
        failing(asked, ResponseCode::FormErr)[..12]
            .iter()
            .enumerate()
            .map(|(at, byte)| if at == 5 || at == 11 { 0 } else { *byte })
            .collect()
    });
    assert_eq!(short.unwrap_err(), Unusable::Declined(1));
    let extended = read(|asked| edited(&answer(asked, &[]), |it| it.metadata.response_code = ResponseCode::BADVERS));
    assert_eq!(extended.unwrap_err(), Unusable::Declined(16));
    let cut = read(|asked| answer(asked, &[(ADDRESS, 1)]).split_last().unwrap().1.to_vec());
    assert_eq!(cut.unwrap_err(), Unusable::Malformed);
    assert_eq!(read(|asked| asked.to_vec()).unwrap_err(), Unusable::Stray);
    assert_eq!(read(|_| Vec::new()).unwrap_err(), Unusable::Stray);
    let other_type = read(|_| answer(&question(9, "a.example", RecordType::AAAA, None), &[]));
    assert_eq!(other_type.unwrap_err(), Unusable::Stray);
}

#[test]
fn age_is_taken_off_and_authority_with_it() {
    let authoritative =
        |asked: &[u8]| edited(&answer(asked, &[(ADDRESS, 300), (ADDRESS, 5)]), |it| it.metadata.authoritative = true);
    let reply = read(authoritative).unwrap();
    let query = query("a.example");
    let fresh = Message::from_vec(&reply.to_client(&query, Transport::Udp, None)).unwrap();
    assert!(fresh.metadata.authoritative);
    assert_eq!(fresh.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [300, 5]);
    let old = Message::from_vec(&reply.to_client(&query, Transport::Udp, Some(Duration::from_secs(10)))).unwrap();
    assert!(!old.metadata.authoritative);
    assert_eq!(old.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [290, 0]);
}

#[test]
fn additional_records_go_without_a_word_and_answers_with_one() {
    let crowded = |answers: usize| {
        move |asked: &[u8]| {
            edited(&answer(asked, &vec![(ADDRESS, 9); answers]), |it| {
                let record = it.answers[0].clone();
                it.additionals = vec![record; 40];
                it.set_edns(Edns::new());
            })
        }
    };
    let cut = |answers| {
        let reply = read(crowded(answers)).unwrap();
        let bytes = reply.to_client(&parsed(&question(1, "A.example", RecordType::A, Some(512))), Transport::Udp, None);
        assert!(bytes.len() <= 512);
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.edns.is_some());
        (message.answers.len(), message.additionals.len(), message.metadata.truncation)
    };
    assert_eq!(cut(10), (10, 19, false));
    assert_eq!(cut(40), (29, 0, true));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_panics_and_what_is_passed_on_fits(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        payload in prop::option::of(0..5000u16),
    ) {
        let client = parsed(&question(1, "a.example", RecordType::A, payload));
        let key = key(&client);
        let mut bytes = edited(&denying(&key.outgoing(9, true), 9, 9), |it| {
            it.answers = vec![alias(7); 60];
            it.additionals = vec![alias(7); 3];
        });
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(reply) = Reply::read(&bytes, 9, &key) {
            for transport in [Transport::Udp, Transport::Tcp] {
                let passed = reply.to_client(&client, transport, Some(Duration::from_secs(3)));
                prop_assert!(passed.len() <= usize::from(client.limit(transport)));
                prop_assert!(wire::records(&passed, wire::question_end(&passed).unwrap()).is_ok());
            }
        }
    }
}
