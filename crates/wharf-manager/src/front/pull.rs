//! Pulling and importing images.

use http::Response;
use wharf_engine::{Body, wire::Touched};

use super::{
    call::Call,
    choose,
    forward::{forward, passed_back_then},
};
use crate::Error;

/// `POST /images/create`: the engine that the image's name leads to pulls it, the same one again next time, which then has
/// its layers. From there it goes wherever a container wants it.
pub(crate) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let key = query.get("fromImage").or_else(|| query.get("repo")).unwrap_or("").to_owned();
    let (link, node) = choose::by_key(&call.app, &key)?;
    let path = link.path(call.version, &call.with_query("/images/create"));
    let response = forward(&link, &node, call.request, &path).await?;
    Ok(passed_back_then(response, async move { link.observe(Touched::Images).await }))
}
