//! Building images: one builder per client, so that its cache is warm.
//!
//! BuildKit keeps the client's session in the engine that builds, and neither `/session` nor `/grpc` says for which build it
//! is meant: everything of one client goes to one engine. What a build produces is on that engine, and goes from there
//! wherever a container wants it.

mod context;
mod dockerfile;
mod kit;

use std::sync::Arc;

pub(crate) use self::kit::BuildKits;
use http::{Method, Response};
use serde_json::{Map, Value};
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Class, Node};

use super::{
    answer::{json, of_engine},
    call::{App, Call},
    choose,
    forward::{WhileOpen, forward, forward_body, passed_back_then},
};
use crate::{
    Error, create,
    fleet::Link,
    view::{self, query::Query},
};

/// Ending a build is quick.
const CANCEL_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Where a build goes, and what of it.
struct Plan {
    link: Arc<Link>,
    node: Arc<Node>,
    query: Query,
    arguments: Map<String, Value>,
    /// The path below the version, and the query without the wishes.
    rest: String,
    by_buildkit: bool,
}

/// `POST /build`
pub(crate) async fn build(call: Call) -> Result<Response<Body>, Error> {
    let plan = plan(&call)?;
    send(call, plan).await
}

fn plan(call: &Call) -> Result<Plan, Error> {
    let query = call.query()?;
    let bad = |error| Error::invalid(format!("buildargs: invalid JSON: {error}"));
    let arguments = query.get("buildargs").filter(|text| !text.is_empty());
    let mut arguments: Map<String, Value> =
        arguments.map(serde_json::from_str).transpose().map_err(bad)?.unwrap_or_default();
    for key in ["labels", "cachefrom", "ulimits", "outputs"] {
        let text = query.get(key).filter(|text| !text.is_empty());
        text.map(serde_json::from_str::<serde::de::IgnoredAny>)
            .transpose()
            .map_err(|error| Error::invalid(format!("{key}: invalid JSON: {error}")))?;
    }
    let given = arguments.len();
    let wishes = create::of_build(&mut arguments)?;
    let has_wishes = arguments.len() < given;
    let (link, node) = choose::by_wishes(&call.app, &call.client, wishes)?;
    let by_buildkit = query.get("version") == Some("2");
    if by_buildkit && choose::by_key(&call.app, &call.client)?.1.id != node.id {
        // The session has been opened where this client's sessions always are.
        return Err(Error::new(
            Class::Unsupported,
            "BuildKit's builds cannot be sent to a node of one's choice: set DOCKER_BUILDKIT=0 for the classic builder, which can",
        ));
    }
    let rest = match has_wishes {
        true => format!("/build?{}", query.with("buildargs", &Value::Object(arguments.clone()).to_string())),
        false => call.with_query("/build"),
    };
    Ok(Plan { link, node, query, arguments, rest, by_buildkit })
}

async fn send(call: Call, plan: Plan) -> Result<Response<Body>, Error> {
    let Plan { link, node, query, arguments, rest, by_buildkit } = plan;
    let path = link.path(call.version, &rest);
    let (parts, mut body) = call.request.into_parts();
    let body = if by_buildkit || query.flag("pull") || query.get("remote").is_some_and(|remote| !remote.is_empty()) {
        wharf_engine::incoming(body)
    } else {
        let name = query.get("dockerfile").filter(|name| !name.is_empty()).unwrap_or("Dockerfile");
        let (dockerfile, seen) = context::peek(&mut body, name).await?;
        if let Some(dockerfile) = dockerfile {
            let arguments = arguments.iter().map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned)));
            bring(&call.app, &node, &dockerfile::images(&dockerfile, &arguments.collect())).await?;
        }
        context::whole(seen, body)
    };
    let response = forward_body(&link, &node, http::Request::from_parts(parts, body), &path).await?;
    Ok(passed_back_then(response, async move { link.observe(Touched::Images).await }))
}

/// `POST /build/cancel`: nobody says where the build is, and no two have the same id.
pub(crate) async fn cancel(call: Call) -> Result<Response<Body>, Error> {
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query("/build/cancel"));
    let answer = link.call(Method::POST, &path, None, CANCEL_WITHIN).await;
    answer.map(json).map_err(|error| of_engine(&error, &node))
}

/// `POST /session`, `POST /grpc`: BuildKit's own protocol, upgraded, to this client's builder.
pub(crate) async fn buildkit(call: Call) -> Result<Response<Body>, Error> {
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name("")));
    let mut request = call.request;
    request.extensions_mut().insert(WhileOpen::new(call.app.buildkits.open(node.id)));
    forward(&link, &node, request, &path).await
}

/// Brings the images that a build begins with to its builder, as far as the fleet has them; others the builder pulls itself.
async fn bring(app: &App, builder: &Node, images: &[String]) -> Result<(), Error> {
    for reference in images {
        match view::images::resolve(&app.fleet.snapshot(), reference) {
            Ok(image) => app.transfers.ensure(app, builder, &image, reference).await?,
            Err(error) => tracing::debug!("{error}: the builder will pull it"),
        }
    }
    Ok(())
}
