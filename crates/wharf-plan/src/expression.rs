use std::fmt;

use regex::{Regex, RegexBuilder};

/// A user's pattern may not make us build a machine larger than this.
const PATTERN_LIMIT: usize = 1 << 20;

/// `key==value`, `key!=value`, each with `~` before the value for a wish that may fail. The value is a text with `*` for
/// anything, or a `/regular expression/` that matches anywhere (the predecessor's grammar).
#[derive(Debug, Clone)]
pub struct Expression {
    key: Box<str>,
    value: Box<str>,
    negated: bool,
    soft: bool,
    pattern: Regex,
}

/// Why a text is no expression. The words are the predecessor's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseExpressionError {
    /// No operator.
    #[error("One of operator ==, != is expected in {0:?}")]
    Operator(String),
    /// A key that is none.
    #[error("Key '{0}' is invalid: want a letter or _, then letters, digits, '-', '_' and '.'")]
    Key(String),
    /// A value that is none.
    #[error("Value '{0}' is invalid: {1}")]
    Value(String, String),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// See [`ParseExpressionError`].
    pub fn parse(text: &str) -> Result<Self, ParseExpressionError> {
        let split = ["==", "!="].into_iter().filter_map(|operator| Some((text.find(operator)?, operator))).min();
        let (at, operator) = split.ok_or_else(|| ParseExpressionError::Operator(text.to_owned()))?;
        let (key, value) = (text[..at].trim(), text[at + 2..].trim());
        let first = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(ParseExpressionError::Key(key.to_owned()));
        }
        let (soft, value) = value.strip_prefix('~').map_or((false, value), |value| (true, value));
        let bad = |why: String| ParseExpressionError::Value(value.to_owned(), why);
        if value.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let inside =
            value.strip_prefix('/').and_then(|value| value.strip_suffix('/')).filter(|value| !value.is_empty());
        let pattern = match inside {
            Some(pattern) => pattern.to_owned(),
            None => format!("^{}$", value.split('*').map(regex::escape).collect::<Vec<_>>().join(".*")),
        };
        let built = RegexBuilder::new(&pattern).size_limit(PATTERN_LIMIT).build();
        let pattern =
            built.map_err(|error| bad(error.to_string().lines().last().unwrap_or("no pattern").to_owned()))?;
        Ok(Self { key: key.into(), value: value.into(), negated: operator == "!=", soft, pattern })
    }

    /// What is looked at.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is a wish that may fail.
    pub fn is_soft(&self) -> bool {
        self.soft
    }

    /// Whether it holds where there are these values: that one of them matches, or that none does.
    pub fn holds<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> bool {
        self.is(values.into_iter().any(|value| self.matches(value)))
    }

    /// Whether the value matches, whatever the operator makes of it.
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.pattern.is_match(value)
    }

    /// Whether an id, or its first twelve digits, can match at all: most expressions are names.
    pub(crate) fn may_match_ids(&self) -> bool {
        let value = &*self.value;
        let is_id = value.len() >= 12 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id || value.contains('*') || value.starts_with('/')
    }

    /// Whether it holds, given whether any value matches.
    pub(crate) fn is(&self, matches: bool) -> bool {
        matches != self.negated
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.negated { "!=" } else { "==" };
        write!(f, "{}{operator}{}{}", self.key, if self.soft { "~" } else { "" }, self.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Expression;

    fn holds(expression: &str, value: &str) -> bool {
        Expression::parse(expression).unwrap().holds([value])
    }

    #[test]
    fn values_are_texts_globs_and_patterns() {
        assert!(holds("zone==a", "a") && !holds("zone==a", "ab"));
        assert!(holds("zone!=a", "b") && !holds("zone!=a", "a"));
        assert!(holds("zone==eu-*", "eu-west") && !holds("zone==eu-*", "us-east"));
        assert!(!holds("version==1.2", "1x2"), "a point is a point");
        assert!(holds("zone==/^(a|b)$/", "b") && holds("zone==/es/", "west"));
        assert!(holds("node==node[1]", "node[1]"));
        assert!(Expression::parse("zone!=a").unwrap().holds([]) && !Expression::parse("zone==/.*/").unwrap().holds([]));
        assert!(Expression::parse("zone==~a").unwrap().is_soft());
    }

    #[test]
    fn what_is_no_expression_is_refused_in_the_predecessors_words() {
        let refusal = |text| Expression::parse(text).unwrap_err().to_string();
        assert!(refusal("zone=a").starts_with("One of operator ==, != is expected"));
        assert!(refusal("1zone==a").starts_with("Key '1zone' is invalid"));
        assert!(refusal("==a").starts_with("Key '' is invalid"));
        assert!(refusal("zone==").starts_with("Value '' is invalid"));
        assert!(refusal("zone==/(/").starts_with("Value '/(/' is invalid"));
    }

    proptest! {
        #[test]
        fn no_text_whatever_is_a_panic(text in ".*") {
            Expression::parse(&text).map(|expression| expression.holds(["a"])).ok();
        }

        #[test]
        fn an_expression_reads_back_as_it_prints(key in "[a-z_][a-z0-9._-]{0,8}", value in "[a-z0-9*.:]{1,8}", negated: bool, soft: bool) {
            let text = format!("{key}{}{}{value}", if negated { "!=" } else { "==" }, if soft { "~" } else { "" });
            prop_assert_eq!(Expression::parse(&text).unwrap().to_string(), text);
        }
    }
}
