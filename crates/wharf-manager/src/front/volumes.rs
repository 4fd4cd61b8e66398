//! Volumes: each is one node's, and ties its containers to that node.

use std::{sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Class, Node};

use super::{
    answer::{json, nothing, of_engine, with_status},
    call::Call,
    choose,
    forward::forward,
};
use crate::{Error, create, view};

/// An engine that makes a volume makes a folder, or asks a driver.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

/// `GET /volumes`
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    let query = view::volumes::ListQuery::parse(&call.query()?)?;
    Ok(json(view::volumes::list(&call.snapshot(), &query)?))
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(call: Call) -> Result<Response<Body>, Error> {
    let (node, name) = of_path(&call)?;
    to_owner(call, &node, &name).await
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(call: Call) -> Result<Response<Body>, Error> {
    let (node, name) = match of_path(&call) {
        // With force, that it is gone is all that is asked for.
        Err(error) if error.class == Class::NotFound && call.query()?.flag("force") => {
            return Ok(nothing(StatusCode::NO_CONTENT));
        }
        found => found?,
    };
    let app = call.app.clone();
    let response = to_owner(call, &node, &name).await?;
    if let Some(link) = app.fleet.link(node.id) {
        link.observe(Touched::Volumes).await;
    }
    Ok(response)
}

/// `POST /volumes/create`: on the node that `NODE/NAME` names; where there is one of that name, which is then the answer;
/// else on the best node.
pub(crate) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let (app, version) = (call.app.clone(), call.version);
    let bytes = call.bytes().await?;
    // No body at all asks for a volume without a name.
    let body = if bytes.is_empty() { Ok(Map::new()) } else { serde_json::from_slice::<Map<String, Value>>(&bytes) };
    let mut body = body.map_err(|error| Error::invalid(format!("invalid JSON: {error}")))?;
    let given = body.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
    let labels = body.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let allowed = create::whitelists(body.get("Labels"))?;
    let snapshot = app.fleet.snapshot();
    let (name, (link, node)) = match given.split_once('/') {
        Some((node, name)) => (name, choose::named(&app, node)?),
        None if given.is_empty() => ("", choose::home(&app, &labels, &allowed)?),
        None => match view::volumes::resolve(&snapshot, &given) {
            Ok((node, _)) => (given.as_str(), choose::named(&app, &snapshot_name(&snapshot, node))?),
            Err(error) if error.class == Class::NotFound => (given.as_str(), choose::home(&app, &labels, &allowed)?),
            Err(error) => return Err(error),
        },
    };
    let busy = |_| Error::conflict(format!("a volume {name} is being created just now"));
    let _claim =
        if name.is_empty() { None } else { Some(app.fleet.claim(&format!("volume:{given}")).await.map_err(busy)?) };
    body.insert("Name".to_owned(), Value::String(name.to_owned()));
    let path = link.path(version, "/volumes/create");
    let body = Value::Object(body).to_string();
    let answer = link.call(Method::POST, &path, Some(body.into()), CHANGE_WITHIN).await;
    link.observe(Touched::Volumes).await;
    Ok(with_status(StatusCode::CREATED, answer.map_err(|error| of_engine(&error, &node))?))
}

fn snapshot_name(snapshot: &wharf_model::Snapshot, node: wharf_model::NodeId) -> String {
    snapshot.node(node).map_or_else(String::new, |node| node.name.to_string())
}

/// The volume that the path names, and the node that has it.
fn of_path(call: &Call) -> Result<(Arc<Node>, String), Error> {
    let snapshot = call.snapshot();
    let (node, volume) = view::volumes::resolve(&snapshot, &call.captured.name)?;
    let node = snapshot.node(node).ok_or_else(|| Error::internal("a volume without a node"))?;
    Ok((Arc::clone(node), volume.name.to_string()))
}

async fn to_owner(call: Call, node: &Node, name: &str) -> Result<Response<Body>, Error> {
    let link = call.app.link(node, &format!("volume {}", call.captured.name))?;
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&name)));
    forward(&link, node, call.request, &path).await
}
