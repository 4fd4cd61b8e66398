//! From a datagram to its answer, as far as the table knows. No I/O.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::{
    op::ResponseCode,
    rr::{DNSClass, RecordType},
};
use tokio::time::Instant;

use super::{
    message::{self, Query, Received, Transport},
    table::{Answer, Container, Table},
};

/// What to do about a datagram.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing.
    Noise,
    /// Malformed, or nothing that is done here.
    Bad(Vec<u8>),
    /// Whoever asks is no container of ours.
    Refused(Vec<u8>),
    /// Known here.
    Answered(Vec<u8>),
    /// To be asked elsewhere.
    Forward(Box<Query>, Arc<Container>),
}

/// Reads what came from `source`, and answers what the table knows.
pub(super) fn step(table: &Table, bytes: &[u8], source: IpAddr, transport: Transport, now: Instant, seed: u64) -> Step {
    let query = match message::read(bytes) {
        Received::Query(query) => query,
        Received::Bad(answer) => return Step::Bad(answer),
        Received::Noise => return Step::Noise,
    };
    let wanted = query.question.query_type();
    if matches!(wanted, RecordType::AXFR | RecordType::IXFR) {
        // A transfer is many messages, and nothing for containers.
        return Step::Refused(message::error(&query, ResponseCode::Refused));
    }
    let known = match (query.question.query_class(), query.name()) {
        (DNSClass::IN, Some(name)) => table.resolve(source, &name, wanted, now, seed),
        // Nothing in the table is in another class, or has such a name.
        _ => table.asker(source).map_or(Answer::Refused, Answer::Forward),
    };
    match known {
        Answer::Refused => Step::Refused(message::error(&query, ResponseCode::Refused)),
        Answer::Gone => Step::Answered(message::gone(&query)),
        Answer::Data { data, need } => Step::Answered(message::data(&query, &data, need, transport)),
        Answer::Forward(asker) => Step::Forward(Box::new(query), asker),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::names::{
        message::UDP_BYTES_PLAIN,
        testing::{container, endpoint, ip, network, question},
    };

    fn table() -> Table {
        let table = Table::new();
        table.put_network(network("blue", "10.192.0.0/16"));
        let asker = container('a', "web", vec![endpoint("blue", &["10.192.0.1", "fd00::1"], &["www"])]);
        table.put_container(asker, Instant::now());
        table
    }

    fn check(table: &Table, bytes: &[u8]) {
        for source in ["10.192.0.1", "10.192.0.2"] {
            for transport in [Transport::Udp, Transport::Tcp] {
                match step(table, bytes, ip(source), transport, Instant::now(), 1) {
                    Step::Noise | Step::Forward(..) => {}
                    Step::Bad(answer) | Step::Refused(answer) | Step::Answered(answer) => {
                        assert_eq!(answer[..2], bytes[..2], "the id");
                        assert!(answer[2] & 0x80 != 0, "an answer");
                        assert!(answer.len() <= usize::from(UDP_BYTES_PLAIN));
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_datagram_panics(bytes in vec(any::<u8>(), 0..600)) {
            check(&table(), &bytes);
        }

        #[test]
        fn no_damaged_question_panics(
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            name in prop::sample::select(vec!["web", "_80._tcp.www.blue", "tasks.www", "1.0.192.10.in-addr.arpa", "x.y"]),
            edns in prop::option::of(any::<u16>()),
        ) {
            let mut bytes = question(7, name, RecordType::ANY, edns);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            check(&table(), &bytes);
        }
    }

    #[test]
    fn transfers_are_refused_and_other_classes_are_none_of_ours() {
        let ask = |bytes: &[u8]| step(&table(), bytes, ip("10.192.0.1"), Transport::Tcp, Instant::now(), 1);
        assert!(matches!(ask(&question(1, "web", RecordType::AXFR, None)), Step::Refused(_)));
        let mut chaos = question(1, "web", RecordType::TXT, None);
        *chaos.last_mut().unwrap() = 3;
        assert!(matches!(ask(&chaos), Step::Forward(..)));
    }
}
