//! Questions by TCP, one after the other on each connection (RFC 7766).

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{message::QUERY_BYTES_MOST, quota::Place, upstream::framed},
    Answering, Core, Transport,
};

/// How many connections are open at once. Few clients ask by TCP, and each connection has a file descriptor.
pub(super) const CONNECTIONS_MOST: usize = 256;

/// How many of them one address may have.
pub(super) const CONNECTIONS_MOST_EACH: usize = 16;

/// How long a connection waits for a whole question, and for the client to take an answer: "a few seconds" (RFC 7766
/// §6.2.3).
const IDLE_MOST: Duration = Duration::from_secs(10);

/// How long accepting pauses after an error, which is most often a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the connections of a listener until `closed`.
pub(super) async fn serve(core: Arc<Core>, listener: TcpListener, closed: CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let source = peer.ip().to_canonical();
                // Whoever has too many connections finds the next one closed.
                let Some(place) = core.connections.take(&source) else { continue };
                let connection = converse(core.clone(), stream, source, place);
                core.tasks.spawn(closed.clone().run_until_cancelled_owned(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%peer, %error, "a connection ended early");
                    }
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept connections");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(core: Arc<Core>, mut stream: TcpStream, source: IpAddr, _place: Place<IpAddr>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(question) = timeout(IDLE_MOST, question(&mut stream)).await?? {
        let answer = match core.handle(&question, source, Transport::Tcp) {
            // No client of DNS sends noise: there is nothing to wait for.
            Answering::Dropped => return Ok(()),
            Answering::Ready(answer) => answer,
            Answering::Later(query, waiting) => core.finish(&query, waiting, Transport::Tcp).await,
        };
        timeout(IDLE_MOST, stream.write_all(&framed(&answer))).await??;
        // Strangers are told once, and keep no connection from those who have a use for it.
        if core.table.asker(source).is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next question; nothing when the client has no more, or sends what is too long for any.
async fn question(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > QUERY_BYTES_MOST {
        return Ok(None);
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(Some(question))
}
