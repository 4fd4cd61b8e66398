//! What happens with time: new keys every two minutes, handshakes that are tried again, signs of life.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use boringtun::noise::TunnResult;

use super::{LONGEST_HANDSHAKE_MESSAGE, Shared};
use crate::peers::Node;

/// How often the timers are looked at. The shortest of WireGuard's own is five seconds.
const INTERVAL: Duration = Duration::from_millis(200);
/// How many new peers are greeted each time, so that a node that joins a large fleet stays below what others answer
/// without asking for a proof of its address.
const GREETINGS_PER_INTERVAL: usize = 20;

/// Runs until the other end of `ended` is dropped.
pub(super) fn run(shared: &Shared, ended: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(INTERVAL) {
        // It counts for itself how long ago the last time was.
        shared.limiter.reset_count();
        for node in shared.peers().iter() {
            update(shared, node);
        }
        greet(shared);
    }
}

fn update(shared: &Shared, node: &Node) {
    let mut buffer = [0; LONGEST_HANDSHAKE_MESSAGE];
    let mut link = node.link.lock();
    let endpoint = link.endpoint;
    if let TunnResult::WriteToNetwork(message) = link.tunn.update_timers(&mut buffer) {
        shared.underlay.send_one(endpoint, message);
    }
}

/// Agrees on keys with new peers before there is anything to send. A peer that still has keys from before this process
/// started would else send with them, and be heard by nobody, for 15 seconds.
fn greet(shared: &Shared) {
    let mut new = shared.new.lock();
    let count = new.len().min(GREETINGS_PER_INTERVAL);
    for node in new.drain(..count) {
        let mut buffer = [0; LONGEST_HANDSHAKE_MESSAGE];
        let mut link = node.link.lock();
        let endpoint = link.endpoint;
        // By now the peer may have greeted, or there was something to send.
        if link.tunn.stats().0.is_none()
            && let TunnResult::WriteToNetwork(message) = link.tunn.format_handshake_initiation(&mut buffer, false)
        {
            shared.underlay.send_one(endpoint, message);
        }
    }
}
