//! Images: lists, inspection, names, removal.

use std::{sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use serde_json::Value;
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Image, Node, Snapshot};

use super::{
    answer::{json, nothing, of_engine},
    call::{App, Call},
    forward::forward,
    newer::Newer,
};
use crate::{API_NEWEST, Error, view};

/// Removing an image deletes its files; disks may be slow.
const CHANGE_WITHIN: Duration = Duration::from_secs(120);

/// `GET /images/json`
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    let query = view::images::ListQuery::parse(&call.query()?)?;
    call.app.buildkits.settle(&call.app).await;
    let snapshot = call.snapshot();
    if !query.all && query.extras.is_empty() {
        return Ok(json(view::images::list(&snapshot, &query, call.version)?));
    }
    Ok(json(view::images::list(&asked_for(&call.app, &snapshot, &query).await, &query, call.version)?))
}

/// The fleet with what is not kept in mind of its images, but asked for: those that only builds have made and nobody named,
/// and what is costly to find out.
async fn asked_for(app: &App, snapshot: &Snapshot, query: &view::images::ListQuery) -> Snapshot {
    let all = query.all.then_some("all").into_iter();
    let flags: Vec<_> = all.chain(query.extras.iter().copied()).map(|flag| format!("{flag}=1")).collect();
    let path = format!("/images/json?{}", flags.join("&"));
    let asked = snapshot.nodes().filter(|node| node.is_healthy()).map(|node| {
        let path = &path;
        async move {
            let link = app.fleet.link(node.id)?;
            let listed = link.call(Method::GET, &link.path(API_NEWEST, path), None, CHANGE_WITHIN).await;
            let images = listed.ok().and_then(|listed| wharf_engine::wire::images(&listed).ok())?.0;
            let mut node = Node::clone(node);
            for image in images {
                let tagged = node.images.get(&image.id).map_or(Some(image.created), |known| known.tagged);
                Arc::make_mut(&mut node.images).insert(image.id, Arc::new(Image { tagged, ..image }));
            }
            Some(node)
        }
    });
    let mut complete = snapshot.clone();
    for node in futures_util::future::join_all(asked).await.into_iter().flatten() {
        complete.put_node(node);
    }
    complete
}

/// `GET /images/{name}/json`, `GET /images/{name}/history`
pub(crate) async fn read(call: Call) -> Result<Response<Body>, Error> {
    call.app.buildkits.settle(&call.app).await;
    let (node, name) = holder(&call)?;
    to_holder(call, &node, &name).await
}

/// `POST /images/{name}/push`: the engine that has the image pushes it, with the client's credentials.
pub(crate) async fn push(call: Call) -> Result<Response<Body>, Error> {
    call.app.buildkits.settle(&call.app).await;
    let (node, _) = holder(&call)?;
    // By its name: that says where it is pushed to.
    let name = call.captured.name.clone();
    to_holder(call, &node, &name).await
}

/// `POST /images/{name}/tag`: on every node that has the image.
pub(crate) async fn tag(call: Call) -> Result<Response<Body>, Error> {
    call.app.buildkits.settle(&call.app).await;
    let snapshot = call.snapshot();
    let image = view::images::resolve(&snapshot, &call.captured.name)?;
    let holders: Vec<_> =
        image.holders.iter().filter_map(|id| snapshot.node(*id)).filter(|node| node.is_healthy()).collect();
    if holders.is_empty() {
        return Err(Error::unavailable(format!("image {} is only on nodes that do not answer", call.captured.name)));
    }
    for node in holders {
        let link = call.app.link(node, "the image")?;
        let path = link.path(call.version, &call.with_query(&call.captured.with_name(&image.id.to_string())));
        link.call(Method::POST, &path, None, CHANGE_WITHIN).await.map_err(|error| of_engine(&error, node))?;
        link.observe(Touched::Images).await;
    }
    Ok(nothing(StatusCode::CREATED))
}

/// `DELETE /images/{name}`: from every node that has it. Nodes whose containers use it come first: if one refuses, none
/// has lost anything.
pub(crate) async fn remove(call: Call) -> Result<Response<Body>, Error> {
    call.app.buildkits.settle(&call.app).await;
    let snapshot = call.snapshot();
    let image = view::images::resolve(&snapshot, &call.captured.name)?;
    let mut nodes: Vec<&Arc<Node>> = view::images::having(&snapshot, &call.captured.name, &image);
    let uses = |node: &Node| node.containers.values().any(|container| container.image_id == Some(image.id));
    nodes.sort_by_key(|node| !uses(node));
    let (answering, silent): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.is_healthy());
    if answering.is_empty() {
        return Err(Error::unavailable(format!("image {} is only on nodes that do not answer", call.captured.name)));
    }
    let newer = call.request.extensions().get::<Newer>().copied();
    let mut removed: Vec<Value> = Vec::new();
    for node in answering {
        let link = call.app.link(node, "the image")?;
        newer.map_or(Ok(()), |newer| newer.check(&link, node))?;
        let path = link.path(call.version, &call.with_query(&call.captured.with_name(&call.captured.name)));
        let answer = link.call(Method::DELETE, &path, None, CHANGE_WITHIN).await;
        link.observe(Touched::Images).await;
        let answer = match answer {
            // Another has removed it from there in the meantime.
            Err(error) if error.class() == wharf_model::Class::NotFound => continue,
            answer => answer.map_err(|error| of_engine(&error, node))?,
        };
        let lines: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
        for line in lines {
            if !removed.contains(&line) {
                removed.push(line);
            }
        }
    }
    if !silent.is_empty() {
        let names: Vec<_> = silent.iter().map(|node| &*node.name).collect();
        tracing::warn!("image {} stays on {}, which do not answer", call.captured.name, names.join(", "));
    }
    Ok(json(Value::Array(removed).to_string()))
}

/// A node that has the image of the path and answers; and the image's id.
fn holder(call: &Call) -> Result<(Arc<Node>, String), Error> {
    let snapshot = call.snapshot();
    let image = view::images::resolve(&snapshot, &call.captured.name)?;
    let node = image.holders.iter().filter_map(|id| snapshot.node(*id)).find(|node| node.is_healthy());
    let node = node.ok_or_else(|| {
        Error::unavailable(format!("image {} is only on nodes that do not answer", call.captured.name))
    })?;
    Ok((Arc::clone(node), image.id.to_string()))
}

async fn to_holder(call: Call, node: &Node, name: &str) -> Result<Response<Body>, Error> {
    let link = call.app.link(node, "the image")?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(name)));
    forward(&link, node, call.request, &path).await
}
