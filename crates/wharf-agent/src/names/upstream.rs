//! One question to one name server.

use std::{io, net::SocketAddr, time::Duration};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    message::Transport,
    reply::{Key, Reply, Unusable},
    wire,
};

/// After how long a question is sent again over UDP: a datagram was lost, or the server is slow and takes it for the same.
pub(super) const RESEND_AFTER: Duration = Duration::from_secs(1);

/// How many datagrams that are no answer are read per question: more of them mean that somebody guesses.
const STRAY_MOST: usize = 16;

/// The longest datagram that is read: more than the payload that we offer, since some servers take no notice of it.
const DATAGRAM_BYTES_MOST: usize = 4096;

/// Why a name server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot reach the name server")]
    Unreachable(#[from] io::Error),
    #[error("no answer in time")]
    Silent,
    #[error("unusable answer")]
    Unusable(#[source] Unusable),
}

/// Asks over UDP, and again over TCP if the answer has no room there and `transport` has it.
pub(super) async fn ask(
    upstream: SocketAddr,
    key: &Key,
    transport: Transport,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let answer = match by_udp(upstream, key, true, deadline).await {
        // Servers from before EDNS say so (RFC 6891 §7).
        Err(Failure::Unusable(Unusable::Declined(code))) if is_edns_refusal(code) => {
            by_udp(upstream, key, false, deadline).await
        }
        answer => answer,
    }?;
    if answer.truncated() && transport == Transport::Tcp {
        return match timeout_at(deadline, by_tcp(upstream, key)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Silent),
        };
    }
    Ok(answer)
}

fn is_edns_refusal(code: u16) -> bool {
    [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::BADVERS]
        .iter()
        .any(|refusal| code == u16::from(*refusal))
}

async fn by_udp(upstream: SocketAddr, key: &Key, with_edns: bool, deadline: Instant) -> Result<Reply, Failure> {
    // A socket per question has a port that the kernel chose at random, and takes datagrams of this server only.
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(upstream), 0)).await?;
    socket.connect(upstream).await?;
    let id = random_id()?;
    let question = key.outgoing(id, with_edns);
    socket.send(&question).await?;
    let mut resend_at = Instant::now() + RESEND_AFTER;
    let mut buffer = vec![0; DATAGRAM_BYTES_MOST];
    let mut stray = 0;
    loop {
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                let length = received?;
                match Reply::read(&buffer[..length], id, key) {
                    Err(Unusable::Stray) if stray < STRAY_MOST => stray += 1,
                    answer => return answer.map_err(Failure::Unusable),
                }
            }
            () = sleep_until(resend_at.min(deadline)) => {
                if Instant::now() >= deadline {
                    return Err(Failure::Silent);
                }
                socket.send(&question).await?;
                resend_at = Instant::now() + RESEND_AFTER;
            }
        }
    }
}

async fn by_tcp(upstream: SocketAddr, key: &Key) -> Result<Reply, Failure> {
    let mut stream = TcpStream::connect(upstream).await?;
    let id = random_id()?;
    let question = key.outgoing(id, true);
    stream.write_all(&framed(&question)).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Reply::read(&bytes, id, key).map_err(Failure::Unusable)
}

/// A message as TCP carries it: its length first (RFC 1035 §4.2.2).
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // Every message that is made here is encoded with that limit.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message[..usize::from(length)]);
    framed
}

fn unspecified(peer: SocketAddr) -> std::net::IpAddr {
    match peer {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// An id that nobody can guess: with the port, it is what keeps false answers out.
fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    Ok(wire::word(&id, 0).unwrap_or_default())
}
