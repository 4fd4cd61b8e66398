use std::{fmt, str::FromStr};

use crate::Error;

/// A lab's name: short, for it is part of names of links, which have at most 15 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabName(String);

impl LabName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The bridge that joins the nodes.
    pub(crate) fn bridge(&self) -> String {
        format!("wl-{self}")
    }

    /// The host's end of a node's link.
    pub(crate) fn link(&self, node: usize) -> String {
        format!("wl-{self}-{node}")
    }

    /// A node's network namespace.
    pub(crate) fn namespace(&self, node: usize) -> String {
        format!("wl-{self}-node{node}")
    }

    /// The comment of the lab's firewall rules.
    pub(crate) fn comment(&self) -> String {
        format!("wharf-lab:{self}")
    }
}

impl FromStr for LabName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if first && rest && text.len() <= 8 { Ok(Self(text.to_owned())) } else { Err(Error::Name(text.to_owned())) }
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::LabName;

    #[test]
    fn names_fit_into_the_names_of_links() {
        let name: LabName = "abcdefgh".parse().unwrap();
        assert!(name.link(200).len() <= 15 && name.bridge().len() <= 15);
        for bad in ["", "1a", "Lab", "a-b", "abcdefghi", "a b", "é"] {
            assert!(bad.parse::<LabName>().is_err(), "{bad}");
        }
    }
}
