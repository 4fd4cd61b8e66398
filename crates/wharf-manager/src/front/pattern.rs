//! Matching a request's path against a row's.

use percent_encoding::percent_decode_str;

/// A row's path with at most one `{capture}`, such as `/containers/{container}/json`. The capture takes one segment or
/// more: names may hold slashes (`node1/web`, `example.com/team/image`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    before: &'static str,
    after: &'static str,
    captures: bool,
}

/// What a path had in the place of the capture, decoded, and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Captured {
    /// The name; empty for a pattern without a capture.
    pub(crate) name: String,
    before: &'static str,
    after: &'static str,
}

impl Pattern {
    pub(crate) const fn new(path: &'static str) -> Self {
        let bytes = path.as_bytes();
        let (mut open, mut close, mut index) = (bytes.len(), bytes.len(), 0);
        while index < bytes.len() {
            match bytes[index] {
                b'{' => open = index,
                b'}' => close = index + 1,
                _ => {}
            }
            index += 1;
        }
        let (before, rest) = path.split_at(open);
        let (_, after) = rest.split_at(close - open);
        Self { before, after, captures: close > open }
    }

    /// Whether the path matches, and with what name. Empty names match nothing.
    pub(crate) fn matches(&self, path: &str) -> Option<Captured> {
        let name = if self.captures {
            let name = path.strip_prefix(self.before)?.strip_suffix(self.after)?;
            let name = percent_decode_str(name).decode_utf8().ok()?.trim_start_matches('/').to_owned();
            if name.is_empty() {
                return None;
            }
            name
        } else if path == self.before {
            String::new()
        } else {
            return None;
        };
        Some(Captured { name, before: self.before, after: self.after })
    }

    /// How exact it is: of two patterns that match, the more exact one is meant. No capture is the most exact.
    pub(crate) fn exactness(&self) -> usize {
        if self.captures { self.before.len() + self.after.len() } else { usize::MAX }
    }
}

impl Captured {
    /// The path with another name in its place. Built anew of its parts: text is never replaced in a path.
    pub(crate) fn with_name(&self, name: &str) -> String {
        format!("{}{name}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn captured(pattern: &'static str, path: &str) -> Option<String> {
        Pattern::new(pattern).matches(path).map(|captured| captured.name)
    }

    #[test]
    fn a_capture_takes_names_with_slashes_and_escapes() {
        let inspect = "/images/{image}/json";
        assert_eq!(captured(inspect, "/images/busybox/json").as_deref(), Some("busybox"));
        assert_eq!(captured(inspect, "/images/a.example:5000/b/c:1/json").as_deref(), Some("a.example:5000/b/c:1"));
        assert_eq!(captured(inspect, "/images/a%2Fb/json").as_deref(), Some("a/b"));
        assert_eq!(captured(inspect, "/images/json"), None);
        assert_eq!(captured(inspect, "/images//json"), None);
        assert_eq!(captured("/containers/json", "/containers/json").as_deref(), Some(""));
        assert_eq!(captured("/containers/json", "/containers/json/"), None);
    }

    #[test]
    fn a_path_is_rebuilt_of_its_parts() {
        // A container named `c` must not change the `c` of `/containers`.
        let captured = Pattern::new("/containers/{container}/json").matches("/containers/c/json").unwrap();
        assert_eq!(captured.with_name("0123"), "/containers/0123/json");
    }
}
