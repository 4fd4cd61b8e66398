//! What the manager says of itself and of the fleet as a whole.

use http::{HeaderValue, Response, header};
use wharf_engine::{Body, empty, full};

use super::{answer::json, call::Call};
use crate::{Error, fleet, view};

/// `GET /_ping`, `HEAD /_ping`
pub(crate) async fn ping(call: Call) -> Result<Response<Body>, Error> {
    let head = call.request.method() == http::Method::HEAD;
    let mut response = Response::new(if head { empty() } else { full("OK") });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("2"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    // 1: the classic builder; 2 would make clients try BuildKit.
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    Ok(response)
}

/// `GET /version`
pub(crate) async fn version(_: Call) -> Result<Response<Body>, Error> {
    Ok(json(view::info::version()))
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Result<Response<Body>, Error> {
    let app = &call.app;
    Ok(json(view::info::info(&call.snapshot(), &app.identity, &app.fleet.policy(), fleet::now(), &app.node_lines)))
}
