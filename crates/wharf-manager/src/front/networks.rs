//! Networks: those that span the fleet are in [`fleet`]; others are each one engine's, and tie its containers to that node.

pub(super) mod fleet;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use ipnet::IpNet;
use serde_json::{Map, Value};
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Node, NodeId, PREDEFINED_NETWORKS};

use super::{
    answer::{json, nothing, of_engine, with_status},
    call::{Call, container},
    choose, everywhere,
    forward::forward,
};
use crate::{
    Error,
    networks::NewNetwork,
    view::{self, networks::Found, query::Filters},
};

/// An engine that makes a network sets up a bridge and its rules.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

/// `GET /networks`
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    let query = view::networks::ListQuery::parse(&call.query()?)?;
    Ok(json(view::networks::list(&call.snapshot(), &query)?))
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(call: Call) -> Result<Response<Body>, Error> {
    match view::networks::resolve(&call.snapshot(), &call.captured.name)? {
        Found::Fleet(network) => Ok(json(view::networks::fleet::inspect(&network, &call.snapshot()).to_string())),
        Found::OfNode(node, network) => to_owner(call, node, &network.id.to_string()).await,
    }
}

/// `DELETE /networks/{id}`
pub(crate) async fn remove(call: Call) -> Result<Response<Body>, Error> {
    if PREDEFINED_NETWORKS.contains(&call.captured.name.as_str()) {
        let name = &call.captured.name;
        return Err(Error::forbidden(format!("{name} is a pre-defined network and cannot be removed")));
    }
    match view::networks::resolve(&call.snapshot(), &call.captured.name)? {
        Found::Fleet(network) => fleet::remove(&call.app, &network).await,
        Found::OfNode(node, network) => {
            let app = call.app.clone();
            let response = to_owner(call, node, &network.id.to_string()).await?;
            if let Some(link) = app.fleet.link(node) {
                link.observe(Touched::Networks).await;
            }
            Ok(response)
        }
    }
}

/// `POST /networks/create`: a network that spans the fleet; of one node if the request says so: the one that `NODE/NAME` names,
/// else the best one.
pub(crate) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let (app, version) = (call.app.clone(), call.version);
    let (mut body, _): (Map<String, Value>, _) = call.json().await?;
    let given = body.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
    if given.trim().is_empty() {
        return Err(Error::invalid("invalid name: a network needs one"));
    }
    check_addresses(&body)?;
    let name = given.split_once('/').map_or(&*given, |(_, name)| name);
    if PREDEFINED_NETWORKS.contains(&name) {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    let spans = app.networks.are_on() && !given.contains('/');
    let new = if spans { NewNetwork::parse(name, &body)? } else { None };
    let snapshot = app.fleet.snapshot();
    let same = |node: &Arc<Node>| node.networks.values().any(|network| &*network.name == name);
    let taken = || Error::conflict(format!("network with name {name} already exists"));
    let on_node = given.split_once('/').map(|(node, _)| choose::named(&app, node)).transpose()?;
    let exists = on_node.as_ref().map_or_else(|| snapshot.nodes().any(same), |(_, node)| same(node));
    if exists || snapshot.fleet_network_named(name).is_some() {
        return Err(taken());
    }
    // Two creates of one name at the same time: names of networks are claimed as those of containers are.
    let _claim = app.fleet.claim(&format!("network:{given}")).await.map_err(|_| taken())?;
    if let Some(new) = new {
        return fleet::create(&app, new).await;
    }
    let labels = body.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let (link, node) = on_node.map_or_else(|| choose::home(&app, &labels, &[]), Ok)?;
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

/// `POST /networks/{id}/connect`: the container says on which node.
pub(crate) async fn connect(call: Call) -> Result<Response<Body>, Error> {
    change(call, Change::Connect).await
}

/// `POST /networks/{id}/disconnect`: the container says on which node.
pub(crate) async fn disconnect(call: Call) -> Result<Response<Body>, Error> {
    change(call, Change::Disconnect).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Connect,
    Disconnect,
}

async fn change(call: Call, change: Change) -> Result<Response<Body>, Error> {
    let (app, version, captured) = (call.app.clone(), call.version, call.captured.clone());
    let (mut body, _): (Map<String, Value>, _) = call.json().await?;
    let snapshot = app.fleet.snapshot();
    let reference = body.get("Container").and_then(Value::as_str).unwrap_or("");
    let container = container(&snapshot, reference)?;
    let node = snapshot.node(container.node).ok_or_else(|| Error::internal("a container without a node"))?;
    let link = match app.link(node, &format!("container {}", container.name)) {
        // With force, a container is off a network also where its node cannot be told.
        Err(error) if change == Change::Disconnect && body.get("Force") == Some(&Value::Bool(true)) => {
            let Found::Fleet(network) = view::networks::resolve(&snapshot, &captured.name)? else { return Err(error) };
            fleet::part(node, &network, &container)?;
            app.networks.detach(container.id, network.id).await?;
            return Ok(nothing(StatusCode::OK));
        }
        link => link?,
    };
    body.insert("Container".to_owned(), Value::String(container.id.to_string()));
    let (id, lease) = match view::networks::resolve_on(&snapshot, &captured.name, node)? {
        Found::OfNode(_, network) => (network.id, None),
        Found::Fleet(network) if change == Change::Connect => {
            let (id, lease) = fleet::join(&app, &network, &container, node, &mut body).await?;
            (id, Some(lease))
        }
        Found::Fleet(network) => (fleet::part(node, &network, &container)?, None),
    };
    let path = link.path(version, &captured.with_name(&id.to_string()));
    let answer = link.call(Method::POST, &path, Some(Value::Object(body).to_string().into()), CHANGE_WITHIN).await;
    link.observe_holding(Touched::Container(container.id), lease).await;
    answer.map(|_| nothing(StatusCode::OK)).map_err(|error| of_engine(&error, node))
}

/// `POST /networks/prune`: the fleet's networks that no container is on, and every node's own.
pub(crate) async fn prune(call: Call) -> Result<Response<Body>, Error> {
    let filters = Filters::parse(call.query()?.get("filters").unwrap_or(""))?;
    let pruned = fleet::prune(&call.app, &filters).await?;
    everywhere::prune_networks(call, &filters, pruned).await
}

async fn to_owner(call: Call, node: NodeId, id: &str) -> Result<Response<Body>, Error> {
    let snapshot = call.snapshot();
    let node = snapshot.node(node).ok_or_else(|| Error::internal("a network without a node"))?;
    let link = call.app.link(node, &format!("network {}", call.captured.name))?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(id)));
    forward(&link, node, call.request, &path).await
}
