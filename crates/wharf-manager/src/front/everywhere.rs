//! Requests that all nodes answer, their answers folded into one.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, Response};
use serde_json::{Map, Value};
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Class, Snapshot};

use super::{
    answer::{json, of_engine},
    call::{App, Call},
};
use crate::{Error, view};

/// Engines that clean up delete files, and those that measure walk over them; disks may be slow.
const WITHIN: Duration = Duration::from_secs(600);

/// `POST /containers/prune` and its like: what was removed, from all nodes.
pub(crate) async fn prune(call: Call) -> Result<Response<Body>, Error> {
    let (app, path) = (call.app.clone(), call.with_query(&call.captured.with_name("")));
    let answers = ask(&call, Method::POST, &path).await;
    let links = app.fleet.snapshot().nodes().filter_map(|node| app.fleet.link(node.id)).collect::<Vec<_>>();
    join_all(links.iter().map(|link| async move {
        for touched in [Touched::Images, Touched::Networks, Touched::Volumes, Touched::Containers] {
            link.observe(touched).await;
        }
    }))
    .await;
    let folded = answers?.into_iter().fold(Map::new(), view::fold::sum);
    Ok(json(Value::Object(folded).to_string()))
}

/// `GET /system/df`
pub(crate) async fn usage(call: Call) -> Result<Response<Body>, Error> {
    let path = call.with_query("/system/df");
    let answers = ask(&call, Method::GET, &path).await?;
    let folded = answers.into_iter().fold(Map::new(), view::fold::sum);
    Ok(json(Value::Object(view::fold::images_once(folded)).to_string()))
}

/// The answers of the nodes that answer. Those that do not are named in the log; if none does, that is an error.
async fn ask(call: &Call, method: Method, path: &str) -> Result<Vec<Map<String, Value>>, Error> {
    let (app, snapshot): (&App, std::sync::Arc<Snapshot>) = (&call.app, call.snapshot());
    let asked = snapshot.nodes().filter(|node| node.is_healthy()).map(|node| {
        let method = method.clone();
        async move {
            let link = app.link(node, "this")?;
            let answer = link.call(method, &link.path(call.version, path), None, WITHIN).await;
            let answer = answer.map_err(|error| of_engine(&error, node))?;
            serde_json::from_slice(&answer)
                .map_err(|error| Error::internal(format!("{} gave an answer that cannot be read: {error}", node.name)))
        }
    });
    let mut answers = Vec::new();
    let mut failure = Error::unavailable("no node answers; docker info tells why");
    for answer in join_all(asked).await {
        match answer {
            Ok(answer) => answers.push(answer),
            // What one engine refuses, all refuse.
            Err(error) if error.class != Class::Unavailable => return Err(error),
            Err(error) => {
                tracing::warn!("{error}");
                failure = error;
            }
        }
    }
    if answers.is_empty() { Err(failure) } else { Ok(answers) }
}
