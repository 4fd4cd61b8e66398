//! From the TUN device to the peers.

use std::io;

use boringtun::noise::{Tunn, TunnResult};

use super::{DATA_OVERHEAD, LONGEST_HANDSHAKE_MESSAGE, Shared};
use crate::outbox::Outbox;
use crate::peers::{Link, Peers};
use crate::segment::Segments;
use crate::vnet::{self, Offload};

/// The longest packet on the device, with its header.
const LONGEST_READ: usize = vnet::LENGTH + 65535;
/// How much is encrypted before it is sent: several pieces of 64 KiB, which saves system calls, but no more than stays in
/// the processor's cache. What one read can become must fit twice.
const OUTBOX: usize = 256 << 10;
/// How much an outbox needs to be free for one more read: packets are at least 536 bytes when data is cut (RFC 9293
/// §3.7.1), each with its headers and WireGuard's.
const ROOM_FOR_ONE_READ: usize = LONGEST_READ + LONGEST_READ / 4 + LONGEST_HANDSHAKE_MESSAGE;

/// Runs until the tunnel stops.
pub(super) fn run(shared: &Shared) {
    let mut buffer = vec![0; LONGEST_READ];
    let mut outbox = Outbox::new(OUTBOX);
    loop {
        let peers = shared.peers();
        let more = loop {
            match shared.tun.read(&mut buffer) {
                Ok(length) => encrypt(shared, &peers, &mut buffer[..length], &mut outbox),
                Err(error) => break error,
            }
            if outbox.room() < ROOM_FOR_ONE_READ {
                break io::ErrorKind::Interrupted.into();
            }
        };
        shared.underlay.send_all(&mut outbox);
        let goes_on = match more.kind() {
            io::ErrorKind::WouldBlock => shared.wait(&shared.tun),
            io::ErrorKind::Interrupted => true,
            _ => {
                tracing::error!(error = %more, "somebody removed a tunnel's device");
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Encrypts what one read gave, if it is for a peer.
fn encrypt(shared: &Shared, peers: &Peers, read: &mut [u8], outbox: &mut Outbox) {
    let Some((header, packet)) = read.split_first_chunk_mut::<{ vnet::LENGTH }>() else { return };
    let Some(offload) = vnet::parse(header) else { return };
    let destination = Tunn::dst_address(packet);
    let Some(node) = destination.and_then(|address| peers.by_address(address)) else { return };
    let mut link = node.link.lock();
    encrypt_segments(shared, &mut link, packet, offload, outbox);
}

fn encrypt_segments(shared: &Shared, link: &mut Link, packet: &mut [u8], offload: Offload, outbox: &mut Outbox) {
    let Some(mut segments) = Segments::new(packet, offload) else { return };
    while let Some(segment) = segments.next() {
        // Unusually small segments, in large number, need more room than there is.
        if outbox.room() < (segment.len() + DATA_OVERHEAD).max(LONGEST_HANDSHAKE_MESSAGE) {
            shared.underlay.send_all(outbox);
        }
        // Without a session the packet waits in the peer's own queue, and what comes is the start of a handshake.
        if let TunnResult::WriteToNetwork(datagram) = link.tunn.encapsulate(segment, outbox.free()) {
            let length = datagram.len();
            outbox.commit(shared.underlay.outward(link.endpoint), length);
        }
    }
}
