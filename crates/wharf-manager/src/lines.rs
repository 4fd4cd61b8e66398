//! A streamed body, line by line.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

/// The longest line of an event stream: labels are in there.
const LINE_LIMIT: usize = 4 << 20;

/// A body, line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next line that is not empty; `None` when the body has ended. May be dropped half way and called again.
    ///
    /// # Errors
    /// If the body breaks off, or a line is too long.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>, wharf_engine::BodyError> {
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

/// The failure that an engine's stream of progress tells of, if it does: its status was 200 long before it failed.
pub(crate) fn failure(progress: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        error: Option<String>,
        message: Option<String>,
    }
    let mut lines = serde_json::Deserializer::from_slice(progress).into_iter::<Line>();
    lines.find_map(|line| line.ok().and_then(|line| line.error.or(line.message)))
}

#[cfg(test)]
mod tests {
    use super::failure;

    #[test]
    fn a_failure_in_a_stream_of_progress_is_found() {
        let progress = br#"{"status":"Loading","id":"a"}
            {"errorDetail":{"message":"no space"},"error":"no space"}"#;
        assert_eq!(failure(progress).as_deref(), Some("no space"));
        assert_eq!(failure(br#"{"stream":"Loaded image: a"}"#), None);
        assert_eq!(failure(br#"{"message":"bad tar"}"#).as_deref(), Some("bad tar"));
        assert_eq!(failure(b"not json"), None);
    }
}
