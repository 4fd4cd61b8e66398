//! Networks that span the fleet, as clients ask for them.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use wharf_engine::Body;
use wharf_model::{Container, FleetNetwork, Labels, NetworkId, Node, Timestamp};

use crate::{
    Error,
    fleet::now,
    front::{
        App,
        answer::{nothing, with_status},
    },
    networks::{self, Lease, NewNetwork, asked_address, endpoint_for_engine},
    view::{events::parse_time, filter, query::Filters},
};

/// The default network is made at once, when agents have said what their hosts carry.
const DEFAULT_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn create(app: &App, new: NewNetwork) -> Result<Response<Body>, Error> {
    let network = app.networks.create(new).await?;
    Ok(with_status(StatusCode::CREATED, json!({"Id": network.id.to_string(), "Warning": ""}).to_string()))
}

/// Makes the network of containers that name none, where it is not there yet.
///
/// # Errors
/// As [`networks::Networks::create`].
pub(in crate::front) async fn ensure_default(app: &App) -> Result<(), Error> {
    let Some(name) = &app.default_network else { return Ok(()) };
    let there = || app.fleet.snapshot().fleet_network_named(name).is_some();
    if there() {
        return Ok(());
    }
    let Ok(_claim) = app.fleet.claim(&format!("network:{name}")).await else {
        // Somebody else makes it just now. If that fails, so will what needs it, with its own words.
        let made = app.fleet.wait_for(|snapshot| snapshot.fleet_network_named(name).is_some());
        tokio::time::timeout(DEFAULT_WITHIN, made).await.ok();
        return Ok(());
    };
    match NewNetwork::parse(name, &Map::new())? {
        Some(new) if !there() => app.networks.create(new).await.map(drop),
        _ => Ok(()),
    }
}

pub(super) async fn remove(app: &App, network: &FleetNetwork) -> Result<Response<Body>, Error> {
    let snapshot = app.fleet.snapshot();
    if snapshot.members(network).next().is_some() {
        return Err(networks::in_use(&snapshot, network));
    }
    app.networks.remove(network).await?;
    Ok(nothing(StatusCode::NO_CONTENT))
}

/// Makes a container's node ready, and the request one that its engine understands: the id of the network there.
pub(super) async fn join(
    app: &App,
    network: &FleetNetwork,
    container: &Container,
    node: &Node,
    body: &mut Map<String, Value>,
) -> Result<(NetworkId, Lease), Error> {
    if !node.has_agent() {
        return Err(Error::unavailable(format!(
            "network {} spans the fleet, and no agent of Wharf answers on {} to join it",
            network.name, node.name
        )));
    }
    if container.networks.iter().any(|attached| node.fleet_network(attached) == Some(network.id)) {
        // Docker's words.
        return Err(Error::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            container.name, network.name
        )));
    }
    let asked = body.get("EndpointConfig").cloned().unwrap_or_default();
    let lease = app.networks.lease(network.id, node, asked_address(&asked, network)?).await?;
    body.insert("EndpointConfig".to_owned(), endpoint_for_engine(&asked, lease.address, lease.address6));
    let snapshot = app.fleet.snapshot();
    let part = snapshot.node(node.id).and_then(|node| node.part_of(network.id));
    let part = part.ok_or_else(|| Error::internal(format!("{} has no part of network {}", node.name, network.name)))?;
    Ok((part.id, lease))
}

/// The id of a network on the node of a container that is on it.
pub(super) fn part(node: &Node, network: &FleetNetwork, container: &Container) -> Result<NetworkId, Error> {
    let part = node.part_of(network.id).map(|part| part.id);
    let on = container.networks.iter().any(|attached| node.fleet_network(attached) == Some(network.id));
    // Docker's words.
    part.filter(|_| on).ok_or_else(|| {
        Error::forbidden(format!("container {} is not connected to network {}", container.id, network.name))
    })
}

/// Removes the networks that nobody is on; their names.
pub(super) async fn prune(app: &App, filters: &Filters) -> Result<Vec<String>, Error> {
    let until = filters.of("until").next().map(before).transpose()?;
    let snapshot = app.fleet.snapshot();
    let mut pruned = Vec::new();
    for network in snapshot.fleet_networks() {
        let labels: Labels = network.labels.iter().collect();
        let old = until.is_none_or(|until| network.created < until);
        if !old || !filter::labels(filters, &labels) || snapshot.members(network).next().is_some() {
            continue;
        }
        match app.networks.remove(network).await {
            Ok(()) => pruned.push(network.name.to_string()),
            // Somebody has joined it meanwhile.
            Err(error) if error.class == wharf_model::Class::Forbidden => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}

/// A moment, or how long ago it was: `24h`.
fn before(text: &str) -> Result<Timestamp, Error> {
    match text.parse::<jiff::SignedDuration>() {
        Ok(ago) => {
            let ago = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
            Ok(Timestamp::from_nanos(now().as_nanos().saturating_sub(ago)))
        }
        Err(_) => parse_time("until", text),
    }
}
