use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use wharf_model::Endpoint;

use crate::TlsClient;

/// An engine on the network is near: whoever does not take a connection in this time will not take one at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// What a connection to an engine can do, whatever carries it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to an engine.
pub struct Stream(TokioIo<Box<dyn Io>>);

/// Makes connections to one endpoint. This is the seam where the agents' tunnels come in.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    endpoint: Endpoint,
    tls: Option<TlsClient>,
}

// === impl Connector ===

impl Connector {
    pub(crate) fn new(endpoint: Endpoint, tls: Option<TlsClient>) -> Self {
        Self { endpoint, tls }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A new connection.
    pub(crate) async fn open(&self) -> io::Result<Box<dyn Io>> {
        let connect = async {
            let stream: Box<dyn Io> = match &self.endpoint {
                Endpoint::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    // Terminals send single keys: nothing may wait for more.
                    stream.set_nodelay(true)?;
                    match &self.tls {
                        Some(tls) => Box::new(tls.connect(host, stream).await?),
                        None => Box::new(stream),
                    }
                }
                Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
            };
            Ok(stream)
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_WITHIN:?}"));
        tokio::time::timeout(CONNECT_WITHIN, connect).await.map_err(late)?
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(Stream(TokioIo::new(connector.open().await?))) })
    }
}

// === impl Stream ===

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
