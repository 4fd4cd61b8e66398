//! Requests that the engine answers which has the container.

use std::time::Duration;

use http::Response;
use serde::Deserialize;
use wharf_engine::{Body, collect, full, wire::Touched};

use super::{
    call::{Call, container},
    forward::forward,
};
use crate::Error;

/// An exec's answer is a short id.
const EXEC_ANSWER_LIMIT: usize = 64 << 10;

/// Agents know a name within a few milliseconds, or they are away: nobody waits for those for long.
const TOLD_WITHIN: Duration = Duration::from_millis(200);

/// Passes the request on to the container's engine.
pub(crate) async fn read(call: Call) -> Result<Response<Body>, Error> {
    let container = call.container()?;
    forwarded(call, &container).await
}

/// Passes the request on, and answers when the state knows what it changed.
pub(crate) async fn change(call: Call) -> Result<Response<Body>, Error> {
    let container = call.container()?;
    let app = call.app.clone();
    let response = forwarded(call, &container).await?;
    // A refused stop may still have stopped half of it: what is true is read back in any case.
    if let Some(link) = app.fleet.link(container.node) {
        link.observe(Touched::Container(container.id)).await;
    }
    Ok(response)
}

/// Starts a container: those who may call it by name know it before it runs.
pub(crate) async fn start(call: Call) -> Result<Response<Body>, Error> {
    let container = call.container()?;
    let app = call.app.clone();
    let snapshot = app.fleet.snapshot();
    let networks = snapshot.node(container.node).into_iter().flat_map(|node| {
        let joined = container.networks.iter().filter_map(|attached| node.fleet_network(attached));
        joined.filter_map(|network| snapshot.fleet_network(network))
    });
    let nodes: std::collections::BTreeSet<_> = networks.flat_map(|network| network.nodes()).collect();
    if nodes.is_empty() {
        return change(call).await;
    }
    app.agents.starting(container.id, true).await;
    if !app.agents.settled(nodes, TOLD_WITHIN).await {
        tracing::debug!("{}: not all nodes knew its name within {TOLD_WITHIN:?}", container.name);
    }
    let started = change(call).await;
    if !started
        .as_ref()
        .is_ok_and(|response| !response.status().is_client_error() && !response.status().is_server_error())
    {
        app.agents.starting(container.id, false).await;
    }
    started
}

/// `POST /commit`: the container's engine makes an image of it.
pub(crate) async fn commit(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let container = container(&call.snapshot(), query.get("container").unwrap_or(""))?;
    let snapshot = call.snapshot();
    let node = snapshot.node(container.node).ok_or_else(|| Error::internal("a container without a node"))?;
    let link = call.app.link(node, &format!("container {}", container.name))?;
    let path = format!("/commit?{}", query.with("container", &container.id.to_string()));
    let response = forward(&link, node, call.request, &link.path(call.version, &path)).await?;
    link.observe(Touched::Images).await;
    Ok(response)
}

/// Creates an exec, and remembers where it is.
pub(crate) async fn exec(call: Call) -> Result<Response<Body>, Error> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(rename = "Id")]
        id: Box<str>,
    }
    let container = call.container()?;
    let execs = call.app.execs.clone();
    let (parts, body) = forwarded(call, &container).await?.into_parts();
    let body = collect(body, EXEC_ANSWER_LIMIT).await.map_err(|error| Error::unavailable(error.to_string()))?;
    let body = body.map_err(|_| Error::internal("the engine's answer to an exec is too large"))?;
    if let Ok(created) = serde_json::from_slice::<Created>(&body) {
        execs.remember(created.id, container.node);
    }
    Ok(Response::from_parts(parts, full(body)))
}

/// Passes a request on to the engine that has an exec.
pub(crate) async fn of_exec(call: Call) -> Result<Response<Body>, Error> {
    let id = call.captured.name.clone();
    let node = call.app.execs.find(&call.app, &id).await?;
    let link = call.app.link(&node, &format!("exec {id}"))?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&id)));
    forward(&link, &node, call.request, &path).await
}

async fn forwarded(call: Call, container: &wharf_model::Container) -> Result<Response<Body>, Error> {
    let snapshot = call.snapshot();
    let Some(node) = snapshot.node(container.node) else {
        return Err(Error::not_found(format!("No such container: {}", call.captured.name)));
    };
    let link = call.app.link(node, &format!("container {}", container.name))?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&container.id.to_string())));
    forward(&link, node, call.request, &path).await
}
