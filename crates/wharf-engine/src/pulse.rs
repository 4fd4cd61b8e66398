use std::{fmt, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::{Error, Io, transport::Connector};

/// Answered from memory and without a body (`HEAD /_ping`, API 1.40 and later).
const QUESTION: &[u8] = b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n";

/// The largest head of an answer; an engine's has some 300 bytes.
const HEAD_LIMIT: usize = 4096;

/// The most fields that it may have.
const FIELDS: usize = 32;

/// A connection on which nothing was said for so long may have been forgotten on its way: it would look like an engine that does
/// not answer.
const FRESH: Duration = Duration::from_secs(10);

/// Asks one engine again and again whether it is there, over a connection of its own.
///
/// It is the one thing that is done all the time, to every engine. A connection of the HTTP client keeps twenty kilobytes for
/// it, and a pool to be asked: with thousands of engines that is much of what a manager at rest needs.
pub struct Pulse {
    connector: Connector,
    /// The connection, and when it was last of use.
    kept: Option<(Box<dyn Io>, Instant)>,
}

impl Pulse {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, kept: None }
    }

    /// Closes the connection until the next question, if that is far.
    pub fn rest(&mut self) {
        self.kept = None;
    }

    /// Asks once. No deadline: the caller sets one, and ends the question, and its connection, by dropping it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the engine cannot be reached on a new connection either, or says that it has failed.
    pub async fn beat(&mut self) -> Result<(), Error> {
        if let Some((kept, used)) = self.kept.take()
            && used.elapsed() < FRESH
            && let Ok(kept) = ask(kept).await
        {
            self.kept = Some((kept, Instant::now()));
            return Ok(());
        }
        let endpoint = self.connector.endpoint();
        let unreachable = |unsent| move |error| Error::unreachable(endpoint, unsent, error);
        let fresh = self.connector.open().await.map_err(unreachable(true))?;
        let asked = ask(fresh).await.map_err(unreachable(false))?;
        self.kept = Some((asked, Instant::now()));
        Ok(())
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").field("connector", &self.connector).field("kept", &self.kept.is_some()).finish()
    }
}

/// Asks on a connection and gives it back when there was an answer. A refusal is one, too: that of an engine that does not know the
/// question, or of a plugin that guards it.
async fn ask(mut connection: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
    connection.write_all(QUESTION).await?;
    connection.flush().await?;
    let mut head = Vec::with_capacity(HEAD_LIMIT / 8);
    while head.len() < HEAD_LIMIT {
        if connection.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(status) = status(&head)? {
            return match status {
                ..500 => Ok(connection),
                status => Err(io::Error::other(format!("it answers a ping with status {status}"))),
            };
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("its answer has a head of over {HEAD_LIMIT} bytes")))
}

/// The status of an answer; `None` while its head is not all there.
fn status(head: &[u8]) -> io::Result<Option<u16>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    Ok(answer.parse(head).map_err(bad)?.is_complete().then_some(answer.code).flatten())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use wharf_model::Endpoint;

    use super::*;

    const WELL: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";

    /// An engine that answers each question on a connection with the next of these texts, and closes it after the last.
    async fn engine(connections: Vec<Vec<&'static str>>) -> Pulse {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        tokio::spawn(async move {
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                for answer in answers {
                    let mut question = vec![0; QUESTION.len()];
                    stream.read_exact(&mut question).await.unwrap();
                    assert_eq!(question, QUESTION);
                    // In two parts: an answer need not come at once.
                    let (first, rest) = answer.split_at(answer.len() / 2);
                    stream.write_all(first.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                    stream.write_all(rest.as_bytes()).await.unwrap();
                }
            }
        });
        Pulse::new(Connector::new(endpoint, None))
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_replaced_when_the_engine_has_closed_it() {
        let mut pulse = engine(vec![vec![WELL, "HTTP/1.1 404 Not Found\r\n\r\n"], vec![WELL]]).await;
        for _ in 0..3 {
            pulse.beat().await.unwrap();
        }
        pulse.rest();
        assert!(pulse.beat().await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_well_is_no_engine() {
        for answer in [
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Le",
        ] {
            let error = engine(vec![vec![answer]]).await.beat().await.unwrap_err();
            assert!(error.to_string().starts_with("cannot reach the engine at"), "{error}");
        }
        let endless: &'static str = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(2 * HEAD_LIMIT)).leak();
        assert!(engine(vec![vec![endless]]).await.beat().await.unwrap_err().to_string().contains("over 4096 bytes"));
    }
}
