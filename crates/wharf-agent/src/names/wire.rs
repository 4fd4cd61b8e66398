//! Where things are in a DNS message (RFC 1035 §4): for what is passed on byte by byte, with types that nobody here has to
//! know. Every offset is checked against the message.

/// How long the header is.
pub(super) const HEADER_BYTES: usize = 12;

/// The type of the pseudo record that carries EDNS (RFC 6891).
pub(super) const OPT: u16 = 41;

/// The longest name on the wire (RFC 1035 §2.3.4).
const NAME_BYTES_MOST: usize = 255;

/// Bits of the header's third and fourth byte.
pub(super) const RESPONSE: u16 = 0x8000;
pub(super) const OPERATION: u16 = 0x7800;
pub(super) const AUTHORITATIVE: u16 = 0x0400;
pub(super) const TRUNCATED: u16 = 0x0200;
pub(super) const RECURSION_DESIRED: u16 = 0x0100;
pub(super) const CHECKING_DISABLED: u16 = 0x0010;
pub(super) const RESPONSE_CODE: u16 = 0x000f;

/// Where the header keeps its words.
pub(super) const ID_AT: usize = 0;
pub(super) const FLAGS_AT: usize = 2;
pub(super) const QUESTIONS_AT: usize = 4;
pub(super) const ANSWERS_AT: usize = 6;
pub(super) const AUTHORITIES_AT: usize = 8;
pub(super) const ADDITIONALS_AT: usize = 10;

/// What is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub(super) struct Malformed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordAt {
    pub(super) section: Section,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its type.
    pub(super) kind: u16,
    pub(super) ttl_at: usize,
    pub(super) data_at: usize,
}

/// The 16-bit word at an offset.
pub(super) fn word(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(word) => Ok(u16::from_be_bytes(*word)),
        None => Err(Malformed),
    }
}

/// The 32-bit word at an offset.
pub(super) fn long(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(long) => Ok(u32::from_be_bytes(*long)),
        None => Err(Malformed),
    }
}

/// Puts a 16-bit word at an offset within the message.
pub(super) fn put_word(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// Where the only question ends, which begins after the header and is not compressed.
pub(super) fn question_end(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut at = HEADER_BYTES;
    loop {
        match bytes.get(at) {
            Some(0) => break,
            Some(length @ 1..=63) => at += 1 + usize::from(*length),
            _ => return Err(Malformed),
        }
    }
    let end = at + 1 + 4;
    if end > bytes.len() || at + 1 - HEADER_BYTES > NAME_BYTES_MOST { Err(Malformed) } else { Ok(end) }
}

/// Where the records are, from `at` on, in order.
pub(super) fn records(bytes: &[u8], mut at: usize) -> Result<Vec<RecordAt>, Malformed> {
    let mut records = Vec::new();
    let sections =
        [(Section::Answer, ANSWERS_AT), (Section::Authority, AUTHORITIES_AT), (Section::Additional, ADDITIONALS_AT)];
    for (section, count_at) in sections {
        // A count that is too big runs into the message's end long before it costs anything.
        for _ in 0..word(bytes, count_at)? {
            let fixed = skip_name(bytes, at)?;
            let data_at = fixed + 10;
            let end = data_at + usize::from(word(bytes, fixed + 8)?);
            if end > bytes.len() {
                return Err(Malformed);
            }
            records.push(RecordAt { section, start: at, end, kind: word(bytes, fixed)?, ttl_at: fixed + 4, data_at });
            at = end;
        }
    }
    Ok(records)
}

fn skip_name(bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
    loop {
        match bytes.get(at) {
            Some(0) => return Ok(at + 1),
            Some(length @ 1..=63) => at += 1 + usize::from(*length),
            // A pointer ends the name; where it leads is for the reader to follow.
            Some(0xc0..) => return Ok(at + 2),
            _ => return Err(Malformed),
        }
    }
}

/// Whether two questions are the same: names in any case, type and class exactly.
pub(super) fn same_question(one: &[u8], other: &[u8]) -> bool {
    match (one.split_last_chunk::<4>(), other.split_last_chunk::<4>()) {
        (Some((name, kind)), Some((other_name, other_kind))) => {
            kind == other_kind && name.eq_ignore_ascii_case(other_name)
        }
        _ => false,
    }
}
