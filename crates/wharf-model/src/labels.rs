use std::fmt;

/// What separates keys and values. Docker's clients cannot put it into a label; what follows one is cut off.
const END: char = '\0';

/// Labels of a thing, in one piece of text: there are millions of them, and few are ever looked at.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// What a label says.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Whether there is such a label, whatever it says.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All of them, as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (key, after) = rest.split_once(END)?;
            let (value, after) = after.split_once(END)?;
            rest = after;
            Some((key, value))
        })
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut text = String::new();
        for (key, value) in labels {
            for part in [key.as_ref(), value.as_ref()] {
                text.push_str(part.split(END).next().unwrap_or_default());
                text.push(END);
            }
        }
        Self(text.into())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Labels;

    proptest! {
        #[test]
        fn labels_are_found_as_they_were_given(given in proptest::collection::btree_map("[^\0]{0,8}", "[^\0]{0,8}", 0..6), other in "[^\0]{0,8}") {
            let labels: Labels = given.iter().collect();
            for (key, value) in &given {
                prop_assert_eq!(labels.get(key), Some(value.as_str()));
            }
            prop_assert_eq!(labels.contains_key(&other), given.contains_key(&other));
            prop_assert_eq!(labels.iter().count(), given.len());
        }
    }

    #[test]
    fn a_separator_within_a_label_spoils_no_other() {
        let labels: Labels = [("a\0b", "1\u{0}2"), ("c", "3")].into_iter().collect();
        assert_eq!((labels.get("a"), labels.get("c"), labels.get("b")), (Some("1"), Some("3"), None));
    }
}
