//! Containers: lists, inspection, renames.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Method, Response};
use wharf_engine::{Body, wire::Touched};
use wharf_model::ContainerId;

use super::{
    answer::{json, json_pieces, of_engine},
    call::{App, Call},
    forward::forward,
};
use crate::{API_NEWEST, Error, fleet, view};

/// An inspection asks one engine about one container; disks may be slow.
const INSPECT_WITHIN: Duration = Duration::from_secs(60);

/// Sizes are summed over whole file systems.
const SIZES_WITHIN: Duration = Duration::from_secs(120);

/// `GET /containers/json`
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    let query = view::containers::ListQuery::parse(&call.query()?)?;
    let sizes = if query.size { Some(sizes(&call.app).await) } else { None };
    let mut list = view::containers::List::new(call.snapshot(), query, fleet::now())?;
    let pieces = std::iter::from_fn(move || list.next_piece());
    if let Some(sizes) = sizes {
        return Ok(json(view::containers::with_sizes(&pieces.collect::<Vec<_>>().concat(), &sizes)?));
    }
    Ok(json_pieces(pieces))
}

/// What every engine that answers says of its containers' sizes: the writable layer's, and all of it.
async fn sizes(app: &App) -> BTreeMap<ContainerId, (i64, i64)> {
    let snapshot = app.fleet.snapshot();
    let mut answers: FuturesUnordered<_> = snapshot
        .nodes()
        .filter(|node| node.is_healthy())
        .filter_map(|node| app.fleet.link(node.id))
        .map(|link| async move {
            let path = link.path(API_NEWEST, "/containers/json?all=1&size=1");
            link.call(Method::GET, &path, None, SIZES_WITHIN).await
        })
        .collect();
    let mut sizes = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(body) => sizes.extend(view::containers::sizes(&body)),
            Err(error) => tracing::warn!("the sizes of an engine's containers are missing: {error}"),
        }
    }
    sizes
}

/// `GET /containers/{id}/json`
pub(crate) async fn inspect(call: Call) -> Result<Response<Body>, Error> {
    let container = call.container()?;
    let snapshot = call.snapshot();
    let node = snapshot.node(container.node).ok_or_else(|| Error::internal("a container without a node"))?;
    let link = call.app.link(node, &format!("container {}", container.name))?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&container.id.to_string())));
    let body = link.call(Method::GET, &path, None, INSPECT_WITHIN).await.map_err(|error| of_engine(&error, node))?;
    Ok(json(view::containers::inspect(&body, node)?))
}

/// `POST /containers/{id}/rename`
pub(crate) async fn rename(call: Call) -> Result<Response<Body>, Error> {
    let container = call.container()?;
    let query = call.query()?;
    let name = query.get("name").unwrap_or("").trim_start_matches('/').to_owned();
    if name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    if *name == *container.name {
        // Docker's words and status.
        return Err(Error::invalid("Renaming a container with the same name as its current name"));
    }
    let snapshot = call.snapshot();
    let node = snapshot.node(container.node).ok_or_else(|| Error::internal("a container without a node"))?;
    let app = call.app.clone();
    let link = app.link(node, &format!("container {}", container.name))?;
    // The name stays claimed until the state shows it: no create can slip in between.
    let _claim = app.fleet.claim(&name).await?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&container.id.to_string())));
    let response = forward(&link, node, call.request, &path).await?;
    link.observe(Touched::Container(container.id)).await;
    Ok(response)
}
