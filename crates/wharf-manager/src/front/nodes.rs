//! Wharf's own operations on nodes: what there is, and the labels that the operator gives them.

use std::collections::BTreeMap;

use http::Response;
use wharf_engine::Body;
use wharf_model::BUILT_IN_LABELS;

use super::{
    answer::json,
    call::{Call, node},
};
use crate::{Error, fleet::now, view};

/// The longest key and value of a label.
const LABEL_LIMIT: usize = 4096;

/// Labels of one node.
const LABELS_LIMIT: usize = 100;

/// `GET /wharf/nodes`
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    Ok(json(view::nodes::list(&call.snapshot()).to_string()))
}

/// `GET /wharf/nodes/{node}`
pub(crate) async fn inspect(call: Call) -> Result<Response<Body>, Error> {
    let node = node(&call.snapshot(), &call.captured.name)?;
    Ok(json(view::nodes::one(&node).to_string()))
}

/// `POST /wharf/tokens`: a token with which a host joins by hand.
pub(crate) async fn token(call: Call) -> Result<Response<Body>, Error> {
    let (token, port) = call.app.agents.issue().await?;
    let expires = jiff::Timestamp::from_nanosecond(now().as_nanos().into()).unwrap_or_default();
    let expires = expires + crate::agents::SHOWN_FOR;
    Ok(json(serde_json::json!({"Token": token.to_string(), "Port": port, "Expires": expires.to_string()}).to_string()))
}

/// `POST /wharf/nodes/{node}/labels`: `{"zone": "a", "old": null}` sets one label and takes another away.
pub(crate) async fn label(call: Call) -> Result<Response<Body>, Error> {
    let (app, name) = (call.app.clone(), call.captured.name.clone());
    let (changes, _): (BTreeMap<Box<str>, Option<Box<str>>>, _) = call.json().await?;
    changes.iter().try_for_each(|(key, value)| check(key, value.as_deref()))?;
    let node_now = || node(&app.fleet.snapshot(), &name);
    let labelled = node_now()?;
    if labelled.labels.len() + changes.values().flatten().count() > LABELS_LIMIT {
        return Err(Error::invalid(format!("{name} would have more than {LABELS_LIMIT} labels")));
    }
    let changed = app.labels.change(&labelled.endpoint, |labels| {
        for (key, value) in changes {
            match value {
                Some(value) => drop(labels.insert(key, value)),
                None => drop(labels.remove(&key)),
            }
        }
    });
    let labels = changed.await.map_err(|error| Error::internal(format!("the labels cannot be kept: {error}")))?;
    app.fleet.label(labelled.endpoint.clone(), labels).await;
    Ok(json(view::nodes::one(&*node_now()?).to_string()))
}

/// The grammar of expressions' keys; and what an engine says of itself is not ours to say.
fn check(key: &str, value: Option<&str>) -> Result<(), Error> {
    let first = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(Error::invalid(format!(
            "label {key:?}: want a letter or _, then letters, digits, '-', '_' and '.'"
        )));
    }
    // A constraint on `node` means the node's name.
    if BUILT_IN_LABELS.contains(&key) || key == "node" {
        return Err(Error::invalid(format!("label {key} is the engine's own: it cannot be changed")));
    }
    if key.len() + value.map_or(0, str::len) > LABEL_LIMIT {
        return Err(Error::invalid(format!("label {key}: it is longer than {LABEL_LIMIT} bytes")));
    }
    Ok(())
}
