//! What filters of several lists have in common.

use regex::Regex;
use wharf_model::{Labels, Node};

use super::query::Filters;
use crate::Error;

/// A pattern of a user may not make us build a machine larger than this.
const PATTERN_LIMIT: usize = 1 << 20;

/// Whether labels fulfil all `label` filters: `key`, or `key=value`; and none of `label!`, which only prunes have.
pub(crate) fn labels(filters: &Filters, labels: &Labels) -> bool {
    let has = |wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key) == Some(value),
        None => labels.contains_key(wanted),
    };
    filters.of("label").all(has) && !filters.of("label!").any(has)
}

/// Whether a node fulfils the `node` filter: by its name, its engine's id or its address.
pub(super) fn node(filters: &Filters, node: &Node) -> bool {
    filters.any("node", |wanted| {
        *node.name == *wanted
            || node.endpoint.address() == wanted
            || node.engine.as_ref().is_some_and(|engine| *engine.id == *wanted)
    })
}

/// A pattern that a name has to match anywhere.
///
/// # Errors
/// [`wharf_model::Class::Invalid`] if it is no regular expression.
pub(super) fn pattern(text: &str) -> Result<Regex, Error> {
    let built = regex::RegexBuilder::new(text).size_limit(PATTERN_LIMIT).build();
    built.map_err(|error| Error::invalid(format!("invalid pattern {text:?}: {error}")))
}
