//! Networks: each is one engine's, and ties its containers to that node.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use ipnet::IpNet;
use serde_json::{Map, Value};
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Node, PREDEFINED_NETWORKS};

use super::{
    answer::{json, nothing, of_engine, with_status},
    call::{Call, container},
    choose,
    forward::forward,
};
use crate::{Error, view};

/// An engine that makes a network sets up a bridge and its rules.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

/// `GET /networks`
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    let query = view::networks::ListQuery::parse(&call.query()?)?;
    Ok(json(view::networks::list(&call.snapshot(), &query)?))
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(call: Call) -> Result<Response<Body>, Error> {
    let (node, id) = of_path(&call)?;
    to_owner(call, &node, &id).await
}

/// `DELETE /networks/{id}`
pub(crate) async fn remove(call: Call) -> Result<Response<Body>, Error> {
    if PREDEFINED_NETWORKS.contains(&call.captured.name.as_str()) {
        let name = &call.captured.name;
        return Err(Error::forbidden(format!("{name} is a pre-defined network and cannot be removed")));
    }
    let (node, id) = of_path(&call)?;
    let app = call.app.clone();
    let response = to_owner(call, &node, &id).await?;
    if let Some(link) = app.fleet.link(node.id) {
        link.observe(Touched::Networks).await;
    }
    Ok(response)
}

/// `POST /networks/create`: on the node that `NODE/NAME` names, else on the best one.
pub(crate) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let (app, version) = (call.app.clone(), call.version);
    let (mut body, _): (Map<String, Value>, _) = call.json().await?;
    let given = body.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
    if given.trim().is_empty() {
        return Err(Error::invalid("invalid name: a network needs one"));
    }
    check_addresses(&body)?;
    let labels = body.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let (name, (link, node)) = match given.split_once('/') {
        Some((node, name)) => (name, choose::named(&app, node)?),
        None => (given.as_str(), choose::home(&app, &labels, &[])?),
    };
    if PREDEFINED_NETWORKS.contains(&name) {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    let snapshot = app.fleet.snapshot();
    let same = |node: &Arc<Node>| node.networks.values().any(|network| &*network.name == name);
    let exists = if given.contains('/') { same(&node) } else { snapshot.nodes().any(same) };
    let taken = || Error::conflict(format!("network with name {name} already exists"));
    if exists {
        return Err(taken());
    }
    // Two creates of one name at the same time: names of networks are claimed as those of containers are.
    let _claim = app.fleet.claim(&format!("network:{given}")).await.map_err(|_| taken())?;
    body.insert("Name".to_owned(), Value::String(name.to_owned()));
    let path = link.path(version, "/networks/create");
    let body = Value::Object(body).to_string();
    let answer = link.call(Method::POST, &path, Some(body.into()), CHANGE_WITHIN).await;
    link.observe(Touched::Networks).await;
    Ok(with_status(StatusCode::CREATED, answer.map_err(|error| of_engine(&error, &node))?))
}

/// Engines call a range that is none a fault of their own.
fn check_addresses(body: &Map<String, Value>) -> Result<(), Error> {
    let configs = body.get("IPAM").and_then(|ipam| ipam.get("Config")).and_then(Value::as_array);
    for config in configs.into_iter().flatten() {
        let text = |key| config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("Subnet").is_none() {
            return Err(Error::invalid("IPAM.Config: every entry needs a Subnet such as 10.1.0.0/16"));
        }
        for (key, text) in ["Subnet", "IPRange"].into_iter().filter_map(|key| Some((key, text(key)?))) {
            text.parse::<IpNet>()
                .map_err(|_| Error::invalid(format!("{key} {text:?}: want a range such as 10.1.0.0/16")))?;
        }
        if let Some(text) = text("Gateway") {
            text.parse::<IpAddr>().map_err(|_| Error::invalid(format!("Gateway {text:?}: want an IP address")))?;
        }
    }
    Ok(())
}

/// `POST /networks/{id}/connect`, `POST /networks/{id}/disconnect`: the container says on which node.
pub(crate) async fn connect(call: Call) -> Result<Response<Body>, Error> {
    let (app, version, captured) = (call.app.clone(), call.version, call.captured.clone());
    let (mut body, _): (Map<String, Value>, _) = call.json().await?;
    let snapshot = app.fleet.snapshot();
    let reference = body.get("Container").and_then(Value::as_str).unwrap_or("");
    let container = container(&snapshot, reference)?;
    let node = snapshot.node(container.node).ok_or_else(|| Error::internal("a container without a node"))?;
    let link = app.link(node, &format!("container {}", container.name))?;
    let network = view::networks::resolve_on(&snapshot, &captured.name, node)?;
    body.insert("Container".to_owned(), Value::String(container.id.to_string()));
    let path = link.path(version, &captured.with_name(&network.id.to_string()));
    let answer = link.call(Method::POST, &path, Some(Value::Object(body).to_string().into()), CHANGE_WITHIN).await;
    link.observe(Touched::Container(container.id)).await;
    answer.map(|_| nothing(StatusCode::OK)).map_err(|error| of_engine(&error, node))
}

/// The network that the path names, and the node that has it.
fn of_path(call: &Call) -> Result<(Arc<Node>, String), Error> {
    let snapshot = call.snapshot();
    let (node, network) = view::networks::resolve(&snapshot, &call.captured.name)?;
    let node = snapshot.node(node).ok_or_else(|| Error::internal("a network without a node"))?;
    Ok((Arc::clone(node), network.id.to_string()))
}

async fn to_owner(call: Call, node: &Node, id: &str) -> Result<Response<Body>, Error> {
    let link = call.app.link(node, &format!("network {}", call.captured.name))?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(id)));
    forward(&link, node, call.request, &path).await
}
