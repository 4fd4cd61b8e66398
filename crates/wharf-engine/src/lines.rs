use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::BodyError;

/// The longest line: in events there are labels, and in what agents are told all slices of a network.
const LINE_LIMIT: usize = 4 << 20;

/// A body, line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The lines of a body.
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next line that is not empty; `None` when the body has ended. May be dropped half way and called again.
    ///
    /// # Errors
    /// If the body breaks off, or a line is too long.
    pub async fn next(&mut self) -> Result<Option<BytesMut>, BodyError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(format!("a line of more than {LINE_LIMIT} bytes").into());
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
