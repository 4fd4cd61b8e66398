//! Plugins: each is one engine's. `NODE/NAME` says whose; a fleet of one node needs no saying.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{Method, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use wharf_engine::Body;
use wharf_model::Node;

use super::{
    answer::json,
    call::{App, Call},
    forward::forward,
};
use crate::{Error, fleet::Link};

/// An engine that lists its plugins reads them from memory.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// `GET /plugins`: those of all nodes that answer, with the node before the name where there are several.
pub(crate) async fn list(call: Call) -> Result<Response<Body>, Error> {
    call.query()?.filters(&["capability", "enabled"])?;
    let snapshot = call.snapshot();
    let several = snapshot.node_count() > 1;
    let path = call.with_query("/plugins");
    let asked = snapshot.nodes().filter(|node| node.is_healthy()).map(|node| {
        let (app, path) = (&call.app, &path);
        async move {
            let link = app.fleet.link(node.id)?;
            let listed = link.call(Method::GET, &link.path(call.version, path), None, LIST_WITHIN).await;
            let listed =
                listed.inspect_err(|error| tracing::warn!("the plugins of {} are missing: {error}", node.name));
            let mut plugins: Vec<Value> = serde_json::from_slice(&listed.ok()?).ok()?;
            for name in plugins.iter_mut().filter(|_| several).filter_map(|plugin| plugin.get_mut("Name")) {
                *name = format!("{}/{}", node.name, name.as_str().unwrap_or("")).into();
            }
            Some(plugins)
        }
    });
    let plugins: Vec<_> = join_all(asked).await.into_iter().flatten().flatten().collect();
    Ok(json(Value::Array(plugins).to_string()))
}

/// What is done with one plugin, by its name.
pub(crate) async fn of_node(call: Call) -> Result<Response<Body>, Error> {
    let (link, node, name) = owner(&call.app, &call.captured.name)?;
    let name = name.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
    let path = call.with_query(&call.captured.with_name(&name.collect::<Vec<_>>().join("/")));
    forward(&link, &node, call.request, &link.path(call.version, &path)).await
}

/// `POST /plugins/pull`: the plugin's local name says on which node.
pub(crate) async fn pull(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let remote = query.get("remote").unwrap_or("");
    let alias = query.get("name").filter(|name| !name.is_empty()).unwrap_or(remote).to_owned();
    install(call, "/plugins/pull", &alias).await
}

/// `POST /plugins/create`
pub(crate) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let name = call.query()?.get("name").unwrap_or("").to_owned();
    install(call, "/plugins/create", &name).await
}

async fn install(call: Call, path: &str, name: &str) -> Result<Response<Body>, Error> {
    let (link, node, name) = owner(&call.app, name).map_err(|error| {
        Error::new(
            error.class,
            format!(
                "{error}: plugins are installed on one node, which the local name says: docker plugin install --alias \
                     NODE/NAME PLUGIN, docker plugin create NODE/NAME FOLDER"
            ),
        )
    })?;
    let path = format!("{path}?{}", call.query()?.with("name", &name));
    forward(&link, &node, call.request, &link.path(call.version, &path)).await
}

/// Whose plugin it is, and its name there.
fn owner(app: &App, name: &str) -> Result<(Arc<Link>, Arc<Node>, String), Error> {
    let snapshot = app.fleet.snapshot();
    let named = name.split_once('/').and_then(|(node, rest)| Some((snapshot.node_named(node)?, rest)));
    let (node, name) = match named {
        Some(named) => named,
        None if snapshot.node_count() == 1 => {
            let node = snapshot.nodes().next().ok_or_else(|| Error::internal("a fleet of one without a node"))?;
            (node, name)
        }
        // Docker's words.
        None => return Err(Error::not_found(format!("plugin {name:?} not found: want NODE/NAME"))),
    };
    Ok((app.link(node, &format!("plugin {name}"))?, Arc::clone(node), name.to_owned()))
}
