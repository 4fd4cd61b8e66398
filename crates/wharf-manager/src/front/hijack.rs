//! Raw streams for clients that do not ask for an upgrade.
//!
//! Docker's API began before its clients sent `Upgrade: tcp`: one that posts `attach` or `exec start` without it expects a
//! raw stream, both ways, after `200 OK`. HTTP has no such thing, and neither has hyper; so the request is made one that asks
//! for an upgrade before hyper reads it, and the answer's first line is put back on its way out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wharf_engine::Io;

/// Says that a client did not ask for the upgrade that its request asks for.
const MARK: HeaderName = HeaderName::from_static("x-wharf-raw");

/// What is put into such a request's head.
const ASK: &[u8] = b"\r\nx-wharf-raw: 1\r\nupgrade: tcp";

/// How an upgrade is granted, and what such a client is told instead.
const GRANTED: &[u8] = b"HTTP/1.1 101 ";
const TOLD: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// How a client is told to send the body it has announced.
const CONTINUE: &[u8] = b"HTTP/1.1 100 ";

/// A longer head is hyper's to refuse.
const HEAD_LIMIT: usize = 64 << 10;

/// Whether the client of this request expects a raw stream without having asked for an upgrade. The mark is taken away.
pub(super) fn take_mark(headers: &mut HeaderMap) -> bool {
    headers.remove(MARK).is_some()
}

/// A client's connection.
pub(super) struct Hijackable {
    stream: Box<dyn Io>,
    /// What has been read and not been given on.
    read: Vec<u8>,
    given: usize,
    /// Whether what is read next begins a request. Clients of this API send one at a time: it does after an answer.
    at_head: bool,
    /// The answer that is awaited may be put back; so far is what it is told written.
    put_back: Option<usize>,
    /// The connection has become a stream: nothing in it is HTTP any more.
    raw: bool,
}

impl Hijackable {
    pub(super) fn new(stream: Box<dyn Io>) -> Self {
        Self { stream, read: Vec::new(), given: 0, at_head: true, put_back: None, raw: false }
    }

    /// Something is answered: what comes next is another request, unless this only asks for the rest of the last one.
    fn answers(&mut self, bytes: &[u8]) {
        self.at_head = self.given == self.read.len() && !bytes.starts_with(CONTINUE);
    }

    /// Looks at what begins a request. Whether it has seen enough.
    fn look(&mut self) -> bool {
        let post = &self.read[..self.read.len().min(5)];
        if !b"POST ".starts_with(post) {
            return true;
        }
        let Some(end) = find(&self.read, b"\r\n\r\n") else { return self.read.len() > HEAD_LIMIT };
        if let Some(line) = find(&self.read[..end + 2], b"\r\n")
            && is_hijack(&self.read[..line])
            && !asks_for_upgrade(&self.read[line..end + 2])
        {
            self.read.splice(line..line, ASK.iter().copied());
            self.put_back = Some(0);
        }
        true
    }
}

/// What hyper gets of what begins a request, and what was put into it.
#[cfg(any(test, fuzzing))]
pub(crate) fn rewritten(sent: &[u8]) -> (Vec<u8>, &'static [u8]) {
    let mut client = Hijackable::new(Box::new(tokio::io::empty()));
    sent.clone_into(&mut client.read);
    let put_in = if client.look() && client.put_back.is_some() { ASK } else { b"" };
    (client.read, put_in)
}

/// `POST /containers/…/attach`, `POST /exec/…/start`, in HTTP/1.1.
fn is_hijack(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let path = words.next().and_then(|path| path.split(|byte| *byte == b'?').next()).unwrap_or_default();
    let attach = path.ends_with(b"/attach") && find(path, b"/containers/").is_some();
    let exec = path.ends_with(b"/start") && find(path, b"/exec/").is_some();
    (attach || exec) && words.next() == Some(b"HTTP/1.1")
}

fn asks_for_upgrade(headers: &[u8]) -> bool {
    headers.split(|byte| *byte == b'\n').any(|line| line.len() >= 8 && line[..8].eq_ignore_ascii_case(b"upgrade:"))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

impl AsyncRead for Hijackable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.at_head && !this.raw {
            let mut piece = [0; 4 << 10];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
            let ended = piece.filled().is_empty();
            this.read.extend_from_slice(piece.filled());
            this.at_head = !ended && !this.look();
        }
        if this.given == this.read.len() {
            (this.read, this.given) = (Vec::new(), 0);
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let rest = &this.read[this.given..];
        let rest = &rest[..rest.len().min(buffer.remaining())];
        buffer.put_slice(rest);
        this.given += rest.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Hijackable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.raw {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        this.answers(bytes);
        if !bytes.starts_with(GRANTED) {
            this.put_back = None;
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        while let Some(written) = this.put_back {
            if written == TOLD.len() {
                this.raw = true;
                // The engine's own words after the number are part of what is put back.
                return Poll::Ready(Ok(find(bytes, b"\r\n").map_or(bytes.len(), |end| end + 2)));
            }
            match ready!(Pin::new(&mut this.stream).poll_write(cx, &TOLD[written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => this.put_back = Some(written + more),
            }
        }
        this.raw = true;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if !self.raw && first.starts_with(GRANTED) {
            return self.poll_write(cx, first);
        }
        if !self.raw {
            self.answers(first);
            self.put_back = None;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::Hijackable;

    /// What hyper reads of what a client sends in pieces, and what the client reads of what hyper answers.
    async fn through(pieces: &[&str], answer: &str) -> (String, String) {
        let (client, server) = duplex(64);
        let (mut read, mut write) = tokio::io::split(client);
        let mut server = Hijackable::new(Box::new(server));
        let send = async {
            for piece in pieces {
                write.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            write.shutdown().await.unwrap();
        };
        let mut seen = String::new();
        let (_, read_all) = tokio::join!(send, server.read_to_string(&mut seen));
        read_all.unwrap();
        let mut told = String::new();
        let say = async {
            server.write_all(answer.as_bytes()).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let (_, hear) = tokio::join!(say, read.read_to_string(&mut told));
        hear.unwrap();
        (seen, told)
    }

    #[tokio::test]
    async fn a_raw_stream_is_asked_for_and_the_answer_put_back() {
        let head = ["POST /v1.41/contai", "ners/c/attach?stream=1 HTTP/1.1\r\nHost: x\r", "\n\r\ntyped"];
        let (seen, told) = through(&head, "HTTP/1.1 101 UPGRADED\r\ncontent-type: raw\r\n\r\nout").await;
        let want = "POST /v1.41/containers/c/attach?stream=1 HTTP/1.1\r\nx-wharf-raw: 1\r\nupgrade: tcp\r\nHost: x\r\n\r\ntyped";
        assert_eq!(seen, want);
        assert_eq!(told, "HTTP/1.1 200 OK\r\ncontent-type: raw\r\n\r\nout");
        let refusal = "HTTP/1.1 404 Not Found\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n";
        assert_eq!(through(&head, refusal).await.1, refusal);
    }

    #[tokio::test]
    async fn everything_else_is_left_as_it_is() {
        let granted = "HTTP/1.1 101 Switching Protocols\r\nupgrade: tcp\r\n\r\n";
        for request in [
            "GET /containers/c/attach HTTP/1.1\r\n\r\n",
            "POST /containers/c/attach HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n",
            "POST /containers/c/start HTTP/1.1\r\n\r\n",
            "POST /exec/e/start HTTP/1.0\r\n\r\n",
            "POST ",
            "",
        ] {
            assert_eq!(through(&[request], granted).await, (request.to_owned(), granted.to_owned()));
        }
    }
}
