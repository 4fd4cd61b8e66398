//! Trying the way to other nodes: echo requests (ICMP, RFC 792) to the host itself and through the tunnels, small and as
//! large as packets of networks are, never fragmented. The kernel of the other node answers; its agent is not needed.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use futures_util::future::join_all;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::{net::UdpSocket, time::Instant};
use wharf_protocol::{Peer, ProbeResult};

/// An answer that takes longer is none.
const WITHIN: Duration = Duration::from_millis(700);

/// Packets may get lost; that many in a row do not.
const TRIES: u16 = 3;

/// What the tunnels put around a packet, at most: networks have so much less than the host's own.
const OVERHEAD: u32 = 130;

/// The IPv4 and the ICMP header.
const HEADERS: u32 = 28;

/// The kinds of ICMP messages that are used.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Tries the way to each of some nodes, all at once.
pub(crate) async fn probe(nodes: &BTreeMap<u32, Peer>, underlay_mtu: u32) -> Vec<ProbeResult> {
    let full = usize::try_from(underlay_mtu.saturating_sub(OVERHEAD + HEADERS)).unwrap_or(0);
    join_all(nodes.iter().map(|(node, peer)| async move {
        let (underlay, tunnel, tunnel_full) =
            tokio::join!(echo(peer.underlay, 8), echo(peer.tunnel_address, 8), echo(peer.tunnel_address, full));
        ProbeResult { node: *node, underlay, tunnel, tunnel_full }
    }))
    .await
}

/// Microseconds there and back; `None` if no answer comes.
async fn echo(address: Ipv4Addr, size: usize) -> Option<u64> {
    let socket = socket().ok()?;
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).ok()?;
    for sequence in 0..TRIES {
        let request = request(id, sequence, size);
        let began = Instant::now();
        if socket.send_to(&request, (address, 0)).await.is_err() {
            continue;
        }
        let answered = tokio::time::timeout(WITHIN, answer(&socket, address, id, sequence)).await;
        if matches!(answered, Ok(Some(()))) {
            return u64::try_from(began.elapsed().as_micros()).ok();
        }
    }
    None
}

/// A raw socket of ICMP. What sends and receives packets of UDP does the same with these.
fn socket() -> std::io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::ICMP))?;
    UdpSocket::from_std(socket.into())
}

async fn answer(socket: &UdpSocket, from: Ipv4Addr, id: [u8; 2], sequence: u16) -> Option<()> {
    // A raw socket is given everybody's answers, whole packets.
    let mut packet = vec![0; 65_536];
    loop {
        let read = socket.recv(&mut packet).await.ok()?;
        let packet = packet.get(..read)?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        let message = packet.get(header..)?;
        if Ipv4Addr::from(source) == from
            && message.first() == Some(&ECHO_REPLY)
            && message.get(4..6) == Some(&id)
            && message.get(6..8) == Some(&sequence.to_be_bytes())
        {
            return Some(());
        }
    }
}

fn request(id: [u8; 2], sequence: u16, size: usize) -> Vec<u8> {
    let mut message = vec![ECHO_REQUEST, 0, 0, 0];
    message.extend_from_slice(&id);
    message.extend_from_slice(&sequence.to_be_bytes());
    message.resize(8 + size, 0x57);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The Internet's checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_checksum_that_makes_its_sum_nothing() {
        for size in [0, 1, 8, 1342] {
            assert_eq!(checksum(&request([1, 2], 3, size)), 0, "{size}");
        }
    }

    #[tokio::test]
    async fn this_host_answers_itself_and_nobody_answers_for_a_documentation_address() {
        assert!(echo(Ipv4Addr::LOCALHOST, 1000).await.is_some());
        assert!(echo(Ipv4Addr::new(203, 0, 113, 1), 8).await.is_none());
    }
}
