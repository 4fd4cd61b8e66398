//! Datagrams on their way out, in as few messages as possible: those of equal length to one peer go to the kernel in one
//! message, which it cuts again ([`UDP_SEGMENT`]), and all messages go in one system call.
//!
//! [`UDP_SEGMENT`]: https://www.man7.org/linux/man-pages/man7/udp.7.html

use std::net::SocketAddr;
use std::ops::Range;

/// How many datagrams the kernel cuts one message into at most; `UDP_MAX_SEGMENTS` of older kernels.
const MAXIMUM_SEGMENTS: usize = 64;
/// How long a message can be: what IPv4 takes, less the headers of IP and UDP.
const LONGEST_MESSAGE: usize = 65535 - 20 - 8;

/// Datagrams to one peer, all of `segment` bytes but the last, which may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where to.
    pub(crate) endpoint: SocketAddr,
    /// Where in the outbox they lie, one after the other.
    pub(crate) range: Range<usize>,
    /// The length of each.
    pub(crate) segment: usize,
}

/// The datagrams of one batch.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    used: usize,
    messages: Vec<Message>,
}

impl Outbox {
    /// An empty one with room for `size` bytes.
    pub(crate) fn new(size: usize) -> Outbox {
        Outbox { bytes: vec![0; size].into_boxed_slice(), used: 0, messages: Vec::new() }
    }

    /// How many bytes are free.
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Where the next datagram is to be written.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// Takes the first `length` bytes of what is free as a datagram to `endpoint`.
    pub(crate) fn commit(&mut self, endpoint: SocketAddr, length: usize) {
        let range = self.used..self.used + length;
        self.used = range.end;
        if let Some(message) = self.messages.last_mut() {
            let so_far = message.range.len();
            if message.endpoint == endpoint
                && length <= message.segment
                && so_far.is_multiple_of(message.segment)
                && so_far / message.segment < MAXIMUM_SEGMENTS
                && so_far + length <= LONGEST_MESSAGE
            {
                message.range.end = range.end;
                return;
            }
        }
        self.messages.push(Message { endpoint, range, segment: length });
    }

    /// What is to be sent.
    pub(crate) fn messages(&self) -> (&[u8], &[Message]) {
        (&self.bytes, &self.messages)
    }

    /// Forgets what has been sent.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.messages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn equal_datagrams_to_one_peer_are_one_message_that_a_shorter_one_ends() {
        let mut outbox = Outbox::new(10_000);
        for length in [1000, 1000, 300, 1000] {
            outbox.commit(endpoint(1), length);
        }
        let message = |range, segment| Message { endpoint: endpoint(1), range, segment };
        assert_eq!(outbox.messages().1, [message(0..2300, 1000), message(2300..3300, 1000)]);
    }

    #[test]
    fn a_longer_datagram_or_another_peer_begins_a_new_message() {
        let mut outbox = Outbox::new(10_000);
        outbox.commit(endpoint(1), 100);
        outbox.commit(endpoint(1), 200);
        outbox.commit(endpoint(2), 200);
        assert_eq!(outbox.messages().1.len(), 3);
        outbox.clear();
        assert_eq!((outbox.room(), outbox.messages().1.len()), (10_000, 0));
    }

    #[test]
    fn a_message_stays_within_what_the_kernel_takes() {
        let mut outbox = Outbox::new(300_000);
        (0..100).for_each(|_| outbox.commit(endpoint(1), 1452));
        (0..100).for_each(|_| outbox.commit(endpoint(2), 60));
        for message in outbox.messages().1 {
            assert!(message.range.len() <= LONGEST_MESSAGE);
            assert!(message.range.len().div_ceil(message.segment) <= MAXIMUM_SEGMENTS);
        }
    }
}
