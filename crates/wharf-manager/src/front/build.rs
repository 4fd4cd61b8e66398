//! Building images: one builder per client, so that its cache is warm.

use http::Response;
use wharf_engine::{Body, wire::Touched};

use super::{
    call::Call,
    choose,
    forward::{forward, passed_back_then},
};
use crate::Error;

/// `POST /build`
pub(crate) async fn build(call: Call) -> Result<Response<Body>, Error> {
    if call.query()?.get("version") == Some("2") {
        return Err(Error::new(
            wharf_model::Class::Unsupported,
            "BuildKit is not served by Wharf yet; set DOCKER_BUILDKIT=0 for the classic builder",
        ));
    }
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query("/build"));
    let response = forward(&link, &node, call.request, &path).await?;
    Ok(passed_back_then(response, async move { link.observe(Touched::Images).await }))
}
