//! What clients ask, and the answers that are made here.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{A, AAAA, PTR, SRV},
    },
    serialize::binary::{BinEncodable, BinEncoder},
};

use super::{
    table::{Data, Need},
    wire,
};

/// The longest question that is read. Real ones have less than 600 bytes: a name of 255 and a few EDNS options.
pub(super) const QUERY_BYTES_MOST: usize = 4096;

/// The longest answer over UDP, whatever the client offers: datagrams of this size still come in few fragments, over
/// bridges that lose none.
const UDP_BYTES_MOST: u16 = 4096;

/// The longest answer over UDP to a client that offers nothing (RFC 1035 §2.3.4).
pub(super) const UDP_BYTES_PLAIN: u16 = 512;

/// How many of a service's replicas an answer over UDP names if all do not fit. A client tries the first few at most, and
/// any will do; without the others there is no need to ask again by TCP.
const REPLICAS_PER_DATAGRAM: usize = 8;

/// How long a client may keep what the table said, in seconds. Replicas come and go, and the table is a hop away: 1 is the
/// least that spares a client with a cache a question per connection, and unlike 0 nobody reads it as "for ever".
pub(super) const TTL_SECONDS: u32 = 1;

/// How the question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// A question that can be answered.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) id: u16,
    pub(super) question: Question,
    /// The question as it was on the wire.
    pub(super) question_bytes: Box<[u8]>,
    pub(super) recursion_desired: bool,
    pub(super) checking_disabled: bool,
    pub(super) edns: Option<ClientEdns>,
}

/// What the client said with EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientEdns {
    pub(super) payload: u16,
    pub(super) dnssec_ok: bool,
}

/// What came.
#[derive(Debug)]
pub(super) enum Received {
    Query(Query),
    /// Nothing that can be answered with more than this.
    Bad(Vec<u8>),
    /// Nothing that may be answered: an answer itself, or not even a header.
    Noise,
}

/// Reads what a client sent.
pub(super) fn read(bytes: &[u8]) -> Received {
    let (Ok(id), Ok(flags)) = (wire::word(bytes, wire::ID_AT), wire::word(bytes, wire::FLAGS_AT)) else {
        return Received::Noise;
    };
    if bytes.len() < wire::HEADER_BYTES || flags & wire::RESPONSE != 0 {
        return Received::Noise;
    }
    if flags & wire::OPERATION != 0 {
        return Received::Bad(bare(id, flags, ResponseCode::NotImp));
    }
    // Counts are looked at first, so that no buffer is made for what a header only claims.
    let counts = [wire::QUESTIONS_AT, wire::ANSWERS_AT, wire::AUTHORITIES_AT].map(|at| wire::word(bytes, at));
    let end = wire::question_end(bytes);
    let ([Ok(1), Ok(0), Ok(0)], Ok(end)) = (counts, end) else {
        return Received::Bad(bare(id, flags, ResponseCode::FormErr));
    };
    let Ok(mut message) = Message::from_vec(bytes) else {
        return Received::Bad(bare(id, flags, ResponseCode::FormErr));
    };
    let Some(question) = message.queries.pop() else {
        return Received::Bad(bare(id, flags, ResponseCode::FormErr));
    };
    let query = Query {
        id,
        question,
        question_bytes: bytes[wire::HEADER_BYTES..end].into(),
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: message
            .edns
            .as_ref()
            .map(|edns| ClientEdns { payload: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok }),
    };
    match message.edns {
        Some(edns) if edns.version() != 0 => Received::Bad(error(&query, ResponseCode::BADVERS)),
        _ => Received::Query(query),
    }
}

/// An answer without data or authority that says why.
pub(super) fn error(query: &Query, code: ResponseCode) -> Vec<u8> {
    let mut message = reply(query);
    message.metadata.response_code = code;
    encoded(&message, u16::MAX).unwrap_or_else(|| bare(query.id, 0, ResponseCode::ServFail))
}

/// NXDOMAIN with authority. It has no SOA record, so nobody may keep it (RFC 2308 §5).
pub(super) fn gone(query: &Query) -> Vec<u8> {
    let mut message = reply(query);
    message.metadata.authoritative = true;
    message.metadata.response_code = ResponseCode::NXDomain;
    encoded(&message, u16::MAX).unwrap_or_else(|| bare(query.id, 0, ResponseCode::ServFail))
}

/// What the table said, with authority, cut to what the client takes.
pub(super) fn data(query: &Query, data: &[Data], need: Need, transport: Transport) -> Vec<u8> {
    let mut message = reply(query);
    message.metadata.authoritative = true;
    for datum in data {
        add(&mut message, query.question.name(), datum);
    }
    fitting(message, query.limit(transport), need)
        .unwrap_or_else(|| bare(query.id, wire::TRUNCATED, ResponseCode::NoError))
}

// === impl Query ===

impl Query {
    /// How long an answer may be.
    pub(super) fn limit(&self, transport: Transport) -> u16 {
        match (transport, self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => UDP_BYTES_PLAIN,
            (Transport::Udp, Some(edns)) => edns.payload.clamp(UDP_BYTES_PLAIN, UDP_BYTES_MOST),
        }
    }

    pub(super) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The name asked for, with dots between its labels; nothing if no container can have it.
    pub(super) fn name(&self) -> Option<String> {
        let mut name = String::with_capacity(self.question.name().len());
        for label in self.question.name() {
            let label = str::from_utf8(label).ok().filter(|label| !label.contains('.'))?;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(label);
        }
        Some(name)
    }
}

fn reply(query: &Query) -> Message {
    let mut message = Message::new(query.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = query.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.checking_disabled = query.checking_disabled;
    message.add_query(query.question.clone());
    if let Some(client) = query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MOST).set_dnssec_ok(client.dnssec_ok);
        message.set_edns(edns);
    }
    message
}

fn add(message: &mut Message, owner: &Name, datum: &Data) {
    let record = |name: &Name, data| Record::from_rdata(name.clone(), TTL_SECONDS, data);
    match datum {
        Data::Address(std::net::IpAddr::V4(four)) => {
            message.add_answer(record(owner, RData::A(A(*four))));
        }
        Data::Address(std::net::IpAddr::V6(six)) => {
            message.add_answer(record(owner, RData::AAAA(AAAA(*six))));
        }
        // A name that no DNS message can hold is left out: the table makes none.
        Data::Name(name) => {
            if let Ok(name) = Name::from_labels(name.split('.').map(str::as_bytes)) {
                message.add_answer(record(owner, RData::PTR(PTR(name))));
            }
        }
        Data::Service { port, target, addresses } => {
            if let Ok(target) = Name::from_labels(target.split('.').map(str::as_bytes)) {
                message.add_answer(record(owner, RData::SRV(SRV::new(0, 1, *port, target.clone()))));
                for address in addresses {
                    let data = match address.to_canonical() {
                        std::net::IpAddr::V4(four) => RData::A(A(four)),
                        std::net::IpAddr::V6(six) => RData::AAAA(AAAA(six)),
                    };
                    message.add_additional(record(&target, data));
                }
            }
        }
    }
}

/// The message, or as much of it as fits. What is merely additional may go without a word (RFC 2181 §9).
fn fitting(mut message: Message, limit: u16, need: Need) -> Option<Vec<u8>> {
    if let Some(bytes) = encoded(&message, limit) {
        return Some(bytes);
    }
    message.additionals.clear();
    if let Some(bytes) = encoded(&message, limit) {
        return Some(bytes);
    }
    if need == Need::Any {
        message.answers.truncate(REPLICAS_PER_DATAGRAM);
        if let Some(bytes) = encoded(&message, limit) {
            return Some(bytes);
        }
    }
    // Clients that never ask by TCP make do with what is there, so it is as much as possible.
    message.metadata.truncation = true;
    let all = std::mem::take(&mut message.answers);
    let (mut fits, mut too_many) = (0, all.len());
    let mut best = encoded(&message, limit)?;
    while too_many - fits > 1 {
        let count = fits.midpoint(too_many);
        message.answers = all[..count].to_vec();
        match encoded(&message, limit) {
            Some(bytes) => (best, fits) = (bytes, count),
            None => too_many = count,
        }
    }
    Some(best)
}

/// The message on the wire, if all of it has room.
fn encoded(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(UDP_BYTES_PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder).ok()?;
    // The encoder leaves out what has no room, and says so.
    let cut = wire::word(&bytes, wire::FLAGS_AT).ok()? & wire::TRUNCATED != 0;
    (cut == message.metadata.truncation && bytes.len() <= usize::from(limit)).then_some(bytes)
}

/// A header and nothing else.
fn bare(id: u16, flags: u16, code: ResponseCode) -> Vec<u8> {
    let kept = flags & (wire::OPERATION | wire::RECURSION_DESIRED | wire::TRUNCATED);
    let mut bytes = vec![0; wire::HEADER_BYTES];
    wire::put_word(&mut bytes, wire::ID_AT, id);
    wire::put_word(&mut bytes, wire::FLAGS_AT, wire::RESPONSE | kept | u16::from(code.low()));
    bytes
}
