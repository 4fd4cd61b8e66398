//! What newer versions of the API have added to a request's query: an older engine would drop it in silence, so it is refused
//! before the engine is asked.

use http::Method;
use wharf_model::{ApiVersion, Node};

use crate::{Error, fleet::Link, view::query::Query};

/// Parameters, the operation they belong to, and the minor version that brought them (of 1.x; Docker's API history).
const PARAMETERS: [(&str, &str, &str, u16); 14] = [
    ("POST", "/containers/{container}/stop", "signal", 42),
    ("POST", "/containers/{container}/restart", "signal", 42),
    ("GET", "/containers/{container}/attach/ws", "stdin", 42),
    ("GET", "/containers/{container}/attach/ws", "stdout", 42),
    ("GET", "/containers/{container}/attach/ws", "stderr", 42),
    ("GET", "/images/{image}/json", "manifests", 48),
    ("GET", "/images/{image}/json", "platform", 49),
    ("GET", "/images/{image}/history", "platform", 48),
    ("POST", "/images/{image}/push", "platform", 46),
    ("DELETE", "/images/{image}", "platforms", 50),
    ("GET", "/images/{image}/get", "platform", 48),
    ("GET", "/images/get", "platform", 48),
    ("POST", "/images/load", "platform", 48),
    ("POST", "/build/prune", "max-used-space", 48),
];

/// The newest parameter that a request uses, if engines may be too old for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newer {
    parameter: &'static str,
    since: ApiVersion,
}

impl Newer {
    /// Looks through a request of a row of the table.
    pub(crate) fn of(method: &Method, path: &str, query: &Query) -> Option<Self> {
        let used = |parameter: &str| query.get(parameter).is_some_and(|value| !value.is_empty());
        let found = PARAMETERS.iter().filter(|(of_method, of_path, parameter, _)| {
            *of_method == method.as_str() && *of_path == path && used(parameter)
        });
        let newest = found.max_by_key(|(.., minor)| *minor)?;
        Some(Self { parameter: newest.2, since: ApiVersion::new(1, newest.3) })
    }

    /// Whether an engine understands it.
    ///
    /// # Errors
    /// [`wharf_model::Class::Invalid`], naming the parameter and both versions.
    pub(crate) fn check(self, link: &Link, node: &Node) -> Result<(), Error> {
        if link.speaks(self.since) {
            return Ok(());
        }
        let has = node
            .engine
            .as_ref()
            .map_or_else(String::new, |engine| format!(", and {} speaks {}", node.name, engine.api));
        Err(Error::invalid(format!("parameter {} needs an engine of API {}{has}", self.parameter, self.since)))
    }
}
