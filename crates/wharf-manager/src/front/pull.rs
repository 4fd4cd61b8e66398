//! Pulling and importing images.

use http::Response;
use wharf_engine::{Body, wire::Touched};

use super::{
    call::Call,
    choose,
    forward::{forward, passed_back_then},
};
use crate::Error;

/// `POST /images/create`: the client's builder pulls it, where it is at hand as a base of what the client builds. From there
/// it goes wherever a container wants it.
pub(crate) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    if ["fromImage", "fromSrc"].iter().all(|key| query.get(key).is_none_or(str::is_empty)) {
        return Err(Error::invalid("nothing to pull or import is named: want fromImage=NAME or fromSrc=URL"));
    }
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query("/images/create"));
    let response = forward(&link, &node, call.request, &path).await?;
    Ok(passed_back_then(response, async move { link.observe(Touched::Images).await }))
}
