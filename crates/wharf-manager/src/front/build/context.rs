//! Looking into a build's context, a tar archive on its way to the builder, without keeping it from its way for long.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use wharf_engine::{Body, BodyError};

use crate::{Error, front::upload::Upload};

/// A Dockerfile that does not turn up in so much of a context is not waited for.
const PEEK_LIMIT: usize = 16 << 20;

/// How archives begin that are compressed otherwise: bzip2, xz, zstd. They are the builder's to read.
const COMPRESSED: [&[u8]; 3] = [b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];

/// How a gzip stream begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// At most a thousand times as much comes out of it.
const BITE: usize = 4 << 10;

/// Tar archives are made of these.
const BLOCK: usize = 512;

/// Reads a context until its Dockerfile is there: that, if it was found, and what has been read.
///
/// # Errors
/// [`wharf_model::Class::Invalid`] if the body breaks off, or is too short for an archive.
pub(super) async fn peek(body: &mut Upload, name: &str) -> Result<(Option<String>, Bytes), Error> {
    let (mut seen, mut plain, mut at) = (Vec::new(), Plain::new(), 0);
    let dockerfile = loop {
        match find(plain.text(), &mut at, name) {
            Found::Content(text) => break Some(text),
            Found::Nothing => break None,
            Found::NotYet if plain.text().len() > PEEK_LIMIT => break None,
            Found::NotYet => {}
        }
        let Some(frame) = body.frame().await else {
            if plain.is_no_archive() {
                return Err(Error::invalid(format!(
                    "the build's context is no tar archive: it ends after {} bytes",
                    seen.len()
                )));
            }
            break None;
        };
        let frame = frame.map_err(|error| Error::invalid(format!("the build's context broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            seen.extend_from_slice(&data);
            plain.add(&data);
        }
    };
    Ok((dockerfile, seen.into()))
}

/// A body as if nobody had read from it.
pub(super) fn whole(seen: Bytes, rest: Upload) -> Body {
    let seen = stream::once(std::future::ready(Ok(Frame::data(seen))));
    let rest = BodyStream::new(rest).map(|frame| frame.map_err(BodyError::from));
    StreamBody::new(seen.chain(rest)).boxed_unsync()
}

/// What has been read of an archive, without its compression if that is gzip; the rarer ones are left to the builder.
enum Plain {
    Unknown(Vec<u8>),
    AsItIs(Vec<u8>),
    Gzip(Box<GzDecoder<Vec<u8>>>),
}

impl Plain {
    fn new() -> Self {
        Self::Unknown(Vec::new())
    }

    fn add(&mut self, data: &[u8]) {
        match self {
            Self::AsItIs(text) => text.extend_from_slice(data),
            Self::Gzip(decoder) if decoder.get_ref().len() <= PEEK_LIMIT => {
                // In small bites: a bomb is defused before it is large. What is no gzip after all is the builder's to refuse.
                for bite in data.chunks(BITE) {
                    if decoder.get_ref().len() > PEEK_LIMIT || decoder.write_all(bite).is_err() {
                        break;
                    }
                }
                decoder.flush().ok();
            }
            Self::Gzip(_) => {}
            Self::Unknown(text) => {
                text.extend_from_slice(data);
                if text.len() < GZIP.len() {
                    return;
                }
                let begun = std::mem::take(text);
                *self = if begun.starts_with(&GZIP) {
                    Self::Gzip(Box::new(GzDecoder::new(Vec::new())))
                } else {
                    Self::AsItIs(Vec::new())
                };
                self.add(&begun);
            }
        }
    }

    /// Whether a body that has ended here cannot be an archive: not even one header fits.
    fn is_no_archive(&self) -> bool {
        let text = self.text();
        text.len() < BLOCK && !COMPRESSED.iter().any(|begin| text.starts_with(begin))
    }

    fn text(&self) -> &[u8] {
        match self {
            Self::Unknown(text) | Self::AsItIs(text) => text,
            Self::Gzip(decoder) => decoder.get_ref(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Content(String),
    /// More has to be read.
    NotYet,
    /// There is none, or this is no plain tar archive.
    Nothing,
}

/// Looks for a file from entry to entry; `at` is where the next entry begins.
fn find(archive: &[u8], at: &mut usize, name: &str) -> Found {
    let wanted = name.trim_start_matches("./");
    while let Some(header) = archive.get(*at..*at + BLOCK) {
        let text = |from: usize, to: usize| {
            let field = header[from..to].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).trim().to_owned()
        };
        if header.iter().all(|byte| *byte == 0) || &header[257..262] != b"ustar" {
            return Found::Nothing;
        }
        let Ok(size) = usize::from_str_radix(&text(124, 136), 8) else { return Found::Nothing };
        let (begins, kind) = (*at + BLOCK, header[156]);
        let path = match text(345, 500) {
            prefix if prefix.is_empty() || kind == b'L' => text(0, 100),
            prefix => format!("{prefix}/{}", text(0, 100)),
        };
        if matches!(kind, b'0' | 0) && path.trim_start_matches("./") == wanted {
            return match archive.get(begins..begins.saturating_add(size)) {
                Some(content) => Found::Content(String::from_utf8_lossy(content).into_owned()),
                None => Found::NotYet,
            };
        }
        let Some(next) = size.checked_next_multiple_of(BLOCK).and_then(|size| begins.checked_add(size)) else {
            return Found::Nothing;
        };
        *at = next;
    }
    Found::NotYet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in files {
            let mut header = [0; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[156] = b'0';
            header[257..263].copy_from_slice(b"ustar\0");
            archive.extend_from_slice(&header);
            archive.extend_from_slice(content.as_bytes());
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        archive.resize(archive.len() + 2 * BLOCK, 0);
        archive
    }

    #[test]
    fn the_dockerfile_is_found_wherever_it_is() {
        let long = "x".repeat(2000);
        let whole = archive(&[("a", &long), ("./Dockerfile", "FROM busybox"), ("z", "")]);
        let found = |archive: &[u8], name: &str| find(archive, &mut 0, name);
        assert_eq!(found(&whole, "Dockerfile"), Found::Content("FROM busybox".into()));
        assert_eq!(found(&whole, "other"), Found::Nothing);
        assert_eq!(found(&whole[..1000], "Dockerfile"), Found::NotYet);
        assert_eq!(found(&whole[..3080], "Dockerfile"), Found::NotYet);
        assert_eq!(found(&[], "Dockerfile"), Found::NotYet);
        assert_eq!(found(&[0x1f; 600], "Dockerfile"), Found::Nothing, "a compressed archive is left alone");
    }

    #[test]
    fn a_compressed_archive_is_looked_into_wherever_it_is_cut() {
        let whole = archive(&[("a", &"x".repeat(5000)), ("Dockerfile", "FROM busybox")]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&whole).unwrap();
        let packed = encoder.finish().unwrap();
        for size in [1, 7, packed.len()] {
            let mut plain = Plain::new();
            packed.chunks(size).for_each(|data| plain.add(data));
            assert_eq!(find(plain.text(), &mut 0, "Dockerfile"), Found::Content("FROM busybox".into()), "by {size}");
        }
        let mut broken = Plain::new();
        broken.add(&[0x1f, 0x8b, 1, 2, 3]);
        assert_eq!(broken.text(), b"");
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_are_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1500), size in "[0-7 ]{12}") {
            if bytes.len() > BLOCK {
                bytes[257..262].copy_from_slice(b"ustar");
                bytes[124..136].copy_from_slice(size.as_bytes());
            }
            find(&bytes, &mut 0, "Dockerfile");
        }
    }
}
