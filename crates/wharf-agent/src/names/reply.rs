//! An upstream's answer: checked, measured, and passed on byte by byte to whoever asked the same.

#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    message::{Query, Transport},
    wire::{self, Malformed, Section},
};

/// The least time that an answer is worth keeping. Shorter-lived ones, 0 among them, are passed on and not kept.
const LIFE_LEAST: Duration = Duration::from_secs(1);

/// The longest that an answer is kept, whatever its TTL says: who corrects a mistake waits no longer.
const LIFE_MOST: Duration = Duration::from_secs(3600);

/// The longest that "there is no such name" is kept (RFC 2308 §5 advises one to three hours at most): new names are made
/// all the time, and asking for them before they are there is common.
const NEGATIVE_LIFE_MOST: Duration = Duration::from_secs(60);

/// The payload size that is offered, to upstreams and in answers passed on: goes through every path unfragmented.
pub(super) const PAYLOAD: u16 = 1232;

/// How long an OPT record without options is.
const OPT_BYTES: usize = 11;

/// What the question was that an answer has to fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The name servers that are asked.
    pub(super) upstreams: Arc<[IpAddr]>,
    /// Name in lower case, type and class, as on the wire.
    pub(super) question: Box<[u8]>,
    pub(super) recursion_desired: bool,
    pub(super) checking_disabled: bool,
    pub(super) dnssec_ok: bool,
}

/// An answer that can be passed on.
#[derive(Debug)]
pub(super) struct Reply {
    /// The message without its OPT record: that is between us and the upstream (RFC 6891 §6.2.6).
    bytes: Box<[u8]>,
    question_end: usize,
    records: Box<[Kept]>,
    /// How long it may be kept.
    pub(super) life: Option<Duration>,
}

/// What is needed of a record once it is known to be right.
#[derive(Debug, Clone, Copy)]
struct Kept {
    section: Section,
    end: usize,
    ttl_at: usize,
}

/// Why an upstream's answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// It answers something else, or nothing at all; perhaps somebody guesses.
    #[error("answer to another question")]
    Stray,
    #[error("malformed answer")]
    Malformed,
    /// The upstream will not or cannot say.
    #[error("response code {0}")]
    Declined(u16),
}

// === impl Key ===

impl Key {
    pub(super) fn new(query: &Query, upstreams: Arc<[IpAddr]>) -> Self {
        let mut question = query.question_bytes.clone();
        let name = question.len().saturating_sub(4);
        // Lengths of labels are less than any letter, so only letters change.
        question[..name].make_ascii_lowercase();
        Self {
            upstreams,
            question,
            recursion_desired: query.recursion_desired,
            checking_disabled: query.checking_disabled,
            dnssec_ok: query.dnssec_ok(),
        }
    }

    /// The question as it is sent on. EDNS is ours, not the client's: with it the answer comes in one datagram.
    pub(super) fn outgoing(&self, id: u16, with_edns: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(wire::HEADER_BYTES + self.question.len() + OPT_BYTES);
        bytes.resize(wire::HEADER_BYTES, 0);
        let mut flags = 0;
        if self.recursion_desired {
            flags |= wire::RECURSION_DESIRED;
        }
        if self.checking_disabled {
            flags |= wire::CHECKING_DISABLED;
        }
        wire::put_word(&mut bytes, wire::ID_AT, id);
        wire::put_word(&mut bytes, wire::FLAGS_AT, flags);
        wire::put_word(&mut bytes, wire::QUESTIONS_AT, 1);
        bytes.extend_from_slice(&self.question);
        if with_edns {
            push_opt(&mut bytes, self.dnssec_ok);
        }
        bytes
    }

    fn kind(&self) -> u16 {
        wire::word(&self.question, self.question.len().saturating_sub(4)).unwrap_or_default()
    }
}

// === impl Reply ===

impl Reply {
    /// Reads what an upstream sent to the question with that id.
    pub(super) fn read(bytes: &[u8], id: u16, key: &Key) -> Result<Self, Unusable> {
        let flags = wire::word(bytes, wire::FLAGS_AT).map_err(|Malformed| Unusable::Stray)?;
        let ours = wire::word(bytes, wire::ID_AT) == Ok(id)
            && bytes.len() >= wire::HEADER_BYTES
            && flags & wire::RESPONSE != 0
            && flags & wire::OPERATION == 0;
        if !ours {
            return Err(Unusable::Stray);
        }
        let code = flags & wire::RESPONSE_CODE;
        // Some servers refuse without repeating the question.
        match wire::word(bytes, wire::QUESTIONS_AT) {
            Ok(1) => {}
            Ok(0) if code != 0 => return Err(Unusable::Declined(code)),
            _ => return Err(Unusable::Stray),
        }
        let question_end = wire::question_end(bytes).map_err(|Malformed| Unusable::Stray)?;
        if !wire::same_question(&bytes[wire::HEADER_BYTES..question_end], &key.question) {
            return Err(Unusable::Stray);
        }
        if code != 0 && code != NXDOMAIN {
            return Err(Unusable::Declined(code));
        }
        Self::measured(bytes, question_end, key).unwrap_or(Err(Unusable::Malformed))
    }

    fn measured(bytes: &[u8], question_end: usize, key: &Key) -> Result<Result<Self, Unusable>, Malformed> {
        let mut records = wire::records(bytes, question_end)?;
        let mut bytes = bytes[..records.last().map_or(question_end, |last| last.end)].to_vec();
        if let Some(opt) = records.iter().position(|record| record.kind == wire::OPT) {
            let at = records[opt];
            let high = bytes[at.ttl_at];
            if at.section != Section::Additional {
                return Err(Malformed);
            }
            if high != 0 {
                let low = wire::word(&bytes, wire::FLAGS_AT)? & wire::RESPONSE_CODE;
                return Ok(Err(Unusable::Declined(u16::from(high) << 4 | low)));
            }
            // What comes after it could point to itself, and would move: it goes as well.
            records.truncate(opt);
            bytes.truncate(at.start);
            let left = records.iter().filter(|record| record.section == Section::Additional).count();
            wire::put_word(&mut bytes, wire::ADDITIONALS_AT, u16::try_from(left).map_err(|_| Malformed)?);
        }
        let life = life(&bytes, &records, key.kind())?;
        let records = records.iter().map(|at| Kept { section: at.section, end: at.end, ttl_at: at.ttl_at }).collect();
        Ok(Ok(Self { bytes: bytes.into(), question_end, records, life }))
    }

    /// Whether the upstream had more to say than a datagram holds.
    pub(super) fn truncated(&self) -> bool {
        wire::word(&self.bytes, wire::FLAGS_AT).is_ok_and(|flags| flags & wire::TRUNCATED != 0)
    }

    /// How much memory it takes.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.records.len() * size_of::<Kept>()
    }

    /// The answer for one client. `age` is how long it was kept, if it was.
    pub(super) fn to_client(&self, query: &Query, transport: Transport, age: Option<Duration>) -> Vec<u8> {
        let opt_bytes = if query.edns.is_some() { OPT_BYTES } else { 0 };
        let limit = usize::from(query.limit(transport)) - opt_bytes;
        let fits = self.records.iter().take_while(|record| record.end <= limit).count();
        let end = self.records[..fits].last().map_or(self.question_end, |last| last.end);
        let mut bytes = Vec::with_capacity(end + opt_bytes);
        bytes.extend_from_slice(&self.bytes[..end]);
        self.rewrite_head(&mut bytes, query, age.is_some(), fits);
        let seconds = u32::try_from(age.unwrap_or_default().as_secs()).unwrap_or(u32::MAX);
        for Kept { ttl_at, .. } in &self.records[..fits] {
            let ttl = wire::long(&bytes, *ttl_at).unwrap_or_default();
            bytes[*ttl_at..*ttl_at + 4].copy_from_slice(&ttl.saturating_sub(seconds).to_be_bytes());
        }
        if let Some(edns) = query.edns {
            push_opt(&mut bytes, edns.dnssec_ok);
        }
        bytes
    }

    fn rewrite_head(&self, bytes: &mut [u8], query: &Query, kept: bool, fits: usize) {
        let mut flags = wire::word(bytes, wire::FLAGS_AT).unwrap_or_default();
        if kept {
            // What is kept is hearsay (RFC 2181 §5.4.1).
            flags &= !wire::AUTHORITATIVE;
        }
        for (section, at) in [
            (Section::Answer, wire::ANSWERS_AT),
            (Section::Authority, wire::AUTHORITIES_AT),
            (Section::Additional, wire::ADDITIONALS_AT),
        ] {
            let count = |records: &[Kept]| records.iter().filter(|record| record.section == section).count();
            let left = count(&self.records[..fits]);
            if left < count(&self.records) && section != Section::Additional {
                flags |= wire::TRUNCATED;
            }
            // No more than the message's own count, which was a word.
            wire::put_word(bytes, at, u16::try_from(left).unwrap_or(u16::MAX));
        }
        wire::put_word(bytes, wire::ID_AT, query.id);
        wire::put_word(bytes, wire::FLAGS_AT, flags);
        // In the letters' case that this client used: some check it. Equal names are equally long.
        bytes[wire::HEADER_BYTES..self.question_end].copy_from_slice(&query.question_bytes);
    }
}

const NXDOMAIN: u16 = 3;
const SOA: u16 = 6;
const ANY: u16 = 255;

/// An SOA record's data is at least two names and five long words; the last word is the negative TTL.
const SOA_DATA_BYTES_LEAST: usize = 22;

/// How long an answer may be kept (RFC 2308 §5 where it denies something).
fn life(bytes: &[u8], records: &[wire::RecordAt], wanted: u16) -> Result<Option<Duration>, Malformed> {
    let flags = wire::word(bytes, wire::FLAGS_AT)?;
    if flags & wire::TRUNCATED != 0 {
        return Ok(None);
    }
    let mut seconds = u32::MAX;
    let mut found = false;
    for record in records.iter().filter(|record| record.section == Section::Answer) {
        found |= record.kind == wanted || wanted == ANY;
        seconds = seconds.min(ttl(bytes, record.ttl_at)?);
    }
    let most = if found && flags & wire::RESPONSE_CODE != NXDOMAIN {
        LIFE_MOST
    } else {
        let is_soa = |record: &&wire::RecordAt| record.section == Section::Authority && record.kind == SOA;
        let Some(soa) = records.iter().find(is_soa) else { return Ok(None) };
        if soa.end - soa.data_at < SOA_DATA_BYTES_LEAST {
            return Err(Malformed);
        }
        seconds = seconds.min(ttl(bytes, soa.ttl_at)?).min(ttl(bytes, soa.end - 4)?);
        NEGATIVE_LIFE_MOST
    };
    let life = Duration::from_secs(u64::from(seconds));
    Ok((life >= LIFE_LEAST).then_some(life.min(most)))
}

/// A TTL with its highest bit set means 0 (RFC 2181 §8).
fn ttl(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    wire::long(bytes, at).map(|ttl| if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl })
}

/// Appends an OPT record to a message, which has a header.
fn push_opt(bytes: &mut Vec<u8>, dnssec_ok: bool) {
    let additionals = wire::word(bytes, wire::ADDITIONALS_AT).unwrap_or_default();
    wire::put_word(bytes, wire::ADDITIONALS_AT, additionals.saturating_add(1));
    bytes.push(0);
    bytes.extend_from_slice(&wire::OPT.to_be_bytes());
    bytes.extend_from_slice(&PAYLOAD.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    bytes.extend_from_slice(&[0, 0]);
}
