//! Questions by UDP: what is known is answered at once, and whatever has to wait waits beside.

use std::{sync::Arc, time::Duration};

use tokio::{net::UdpSocket, time::sleep};

use super::{super::message::QUERY_BYTES_MOST, Answering, Core, Transport};

/// How long reading pauses after an error of the socket, so that an error that stays does not take a whole processor.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes in at a socket, for as long as the future is polled.
pub(super) async fn serve(core: Arc<Core>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    // A byte more than is read, to tell what was cut off.
    let mut buffer = vec![0; QUERY_BYTES_MOST + 1];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok((length, _)) if length > QUERY_BYTES_MOST => continue,
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive questions");
                sleep(PAUSE).await;
                continue;
            }
        };
        match core.handle(&buffer[..length], peer.ip(), Transport::Udp) {
            Answering::Dropped => {}
            Answering::Ready(answer) => send(&socket, &answer, peer).await,
            // As many tasks as there are places to wait.
            Answering::Later(query, waiting) => {
                let (core, socket) = (core.clone(), socket.clone());
                let stopped = core.stopped.clone();
                core.tasks.clone().spawn(stopped.run_until_cancelled_owned(async move {
                    let answer = core.finish(&query, waiting, Transport::Udp).await;
                    send(&socket, &answer, peer).await;
                }));
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: std::net::SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        // The client asks again, or is gone.
        tracing::debug!(%peer, %error, "cannot send an answer");
    }
}
