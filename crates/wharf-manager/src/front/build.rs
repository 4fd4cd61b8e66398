//! Building images: one builder per client, so that its cache is warm.

mod context;
mod dockerfile;

use http::Response;
use wharf_engine::{Body, wire::Touched};
use wharf_model::{Class, Node};

use super::{
    call::{App, Call},
    choose,
    forward::{forward_body, passed_back_then},
};
use crate::{Error, view};

/// `POST /build`
pub(crate) async fn build(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    if query.get("version") == Some("2") {
        return Err(Error::new(
            Class::Unsupported,
            "BuildKit is not served by Wharf yet; set DOCKER_BUILDKIT=0 for the classic builder",
        ));
    }
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query("/build"));
    let (parts, body) = call.request.into_parts();
    let name = query.get("dockerfile").filter(|name| !name.is_empty()).unwrap_or("Dockerfile");
    let (dockerfile, body) = context::peek(body, name).await?;
    if let Some(dockerfile) = dockerfile.filter(|_| !query.flag("pull")) {
        let arguments = query.get("buildargs").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        bring(&call.app, &node, &dockerfile::images(&dockerfile, &arguments)).await?;
    }
    let response = forward_body(&link, &node, http::Request::from_parts(parts, body), &path).await?;
    Ok(passed_back_then(response, async move { link.observe(Touched::Images).await }))
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
