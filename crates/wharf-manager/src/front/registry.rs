//! Requests about registries: any engine can answer them, and carries the client's credentials there.

use http::Response;
use wharf_engine::Body;

use super::{call::Call, choose, forward::forward};
use crate::Error;

/// `GET /images/search`, `POST /auth`, `GET /distribution/{name}/json`: the client's builder asks.
pub(crate) async fn ask(call: Call) -> Result<Response<Body>, Error> {
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&call.captured.name)));
    forward(&link, &node, call.request, &path).await
}
