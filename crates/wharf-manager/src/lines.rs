//! Answers of several lines.

use serde::Deserialize;

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
