//! What the fuzz target calls: how this crate reads what clients and name servers send.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use tokio::time::Instant;

use super::{
    message::{Received, Transport, read},
    reply::{Key, Reply},
    respond::{Step, step},
    table::{Container, Endpoint, Network, NetworkId, Table},
    wire,
};

const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 192, 0, 1));

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let (table, id) = (Table::new(), NetworkId::from("n1"));
    if let Ok(range) = "10.192.0.0/16".parse() {
        table.put_network(Network { id: id.clone(), name: "blue".into(), ranges: vec![range] });
    }
    for number in 1..=40u8 {
        let endpoint = Endpoint {
            network: id.clone(),
            addresses: vec![IpAddr::from([10, 192, 0, number])],
            aliases: vec!["web".into()],
            links: vec![("c2".into(), "other".into())],
        };
        let container = Container {
            id: format!("{number:064x}").into(),
            name: format!("c{number}").into(),
            up: number % 8 != 0,
            local_addresses: Vec::new(),
            upstreams: Vec::new(),
            endpoints: vec![endpoint],
        };
        table.put_container(container, Instant::now());
    }
    table
});

/// Takes the bytes for a client's datagram, and for an upstream's answer to the question that they hold: nothing panics,
/// answers belong to their question and are no longer than they may be.
pub fn fuzz(bytes: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        match step(&TABLE, bytes, ASKER, transport, Instant::now(), 1) {
            Step::Noise | Step::Forward(..) => {}
            Step::Bad(answer) | Step::Refused(answer) | Step::Answered(answer) => {
                assert_eq!(answer[..2], bytes[..2], "an answer has the question's id");
                assert!(answer.len() >= wire::HEADER_BYTES && answer[2] & 0x80 != 0, "an answer says that it is one");
            }
        }
    }
    let mut asked = bytes.to_vec();
    if let [_, _, flags, _, _, _, counts @ ..] = &mut asked[..] {
        *flags &= 0x7f;
        counts.iter_mut().take(6).for_each(|count| *count = 0);
    }
    let Received::Query(query) = read(&asked) else { return };
    let key = Key::new(&query, [ASKER].into());
    let Ok(reply) = Reply::read(bytes, query.id, &key) else { return };
    for transport in [Transport::Udp, Transport::Tcp] {
        let passed = reply.to_client(&query, transport, Some(Duration::from_secs(1)));
        assert!(passed.len() <= usize::from(query.limit(transport)), "what is passed on fits");
        assert!(wire::question_end(&passed).and_then(|end| wire::records(&passed, end)).is_ok(), "and is whole");
    }
}
