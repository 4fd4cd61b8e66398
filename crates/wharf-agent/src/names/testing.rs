//! What several tests need: containers, questions, and name servers that answer as told.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    op::{Edns, Message, Query as Question, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA},
    },
};

use crate::names::{
    Container, Endpoint, Network, NetworkId,
    message::{Query, Received, read},
};

/// An IP address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A network whose id is its name with `net-` before.
pub(crate) fn network(name: &str, range: &str) -> Network {
    Network { id: network_id(name), name: name.into(), ranges: vec![range.parse().unwrap()] }
}

pub(crate) fn network_id(name: &str) -> NetworkId {
    NetworkId(format!("net-{name}").into())
}

/// A running container, whose id is `digit` 64 times.
pub(crate) fn container(digit: char, name: &str, endpoints: Vec<Endpoint>) -> Container {
    Container {
        id: String::from(digit).repeat(64).into(),
        name: name.into(),
        up: true,
        local_addresses: Vec::new(),
        upstreams: Vec::new(),
        endpoints,
    }
}

pub(crate) fn endpoint(network: &str, addresses: &[&str], aliases: &[&str]) -> Endpoint {
    Endpoint {
        network: network_id(network),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
        links: Vec::new(),
    }
}

/// A question on the wire.
pub(crate) fn question(id: u16, name: &str, wanted: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(format!("{name}.")).unwrap(), wanted));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

/// A question for A, as the server reads it.
pub(crate) fn query(name: &str) -> Query {
    parsed(&question(1, name, RecordType::A, None))
}

pub(crate) fn parsed(bytes: &[u8]) -> Query {
    match read(bytes) {
        Received::Query(query) => query,
        other => panic!("no question: {other:?}"),
    }
}

fn answering(question: &[u8]) -> Message {
    let asked = Message::from_vec(question).unwrap();
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata.recursion_available = true;
    message.add_queries(asked.queries);
    if asked.edns.is_some() {
        message.set_edns(Edns::new());
    }
    message
}

/// An answer to a question on the wire: addresses with their TTL in seconds.
pub(crate) fn answer(question: &[u8], addresses: &[(Ipv4Addr, u32)]) -> Vec<u8> {
    let mut message = answering(question);
    let name = message.queries[0].name().clone();
    for (address, ttl) in addresses {
        message.add_answer(Record::from_rdata(name.clone(), *ttl, RData::A(A(*address))));
    }
    message.to_vec().unwrap()
}

/// The same cut off, as servers do.
pub(crate) fn truncated(question: &[u8]) -> Vec<u8> {
    let mut message = answering(question);
    message.metadata.truncation = true;
    message.to_vec().unwrap()
}

/// An answer with a code and nothing else.
pub(crate) fn failing(question: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut message = answering(question);
    message.metadata.response_code = code;
    message.to_vec().unwrap()
}

/// "No such name", to be kept for so many seconds if `minimum` says so.
pub(crate) fn denying(question: &[u8], ttl: u32, minimum: u32) -> Vec<u8> {
    let mut message = answering(question);
    message.metadata.response_code = ResponseCode::NXDomain;
    let zone = Name::from_ascii("example.").unwrap();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, minimum);
    message.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    message.to_vec().unwrap()
}
