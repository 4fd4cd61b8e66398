//! Requests about registries: any engine can answer them, and carries the client's credentials there.

use http::{HeaderValue, Method, Request, Response, header};
use serde_json::{Map, Value};
use wharf_engine::{Body, full};

use super::{
    call::Call,
    choose,
    forward::{forward, forward_body},
};
use crate::{Error, view};

/// `POST /auth`: the client's builder asks. A body that is no object would make an engine stumble.
pub(crate) async fn login(call: Call) -> Result<Response<Body>, Error> {
    let (app, version, client) = (call.app.clone(), call.version, call.client.clone());
    let (credentials, _): (Map<String, Value>, _) = call.json().await?;
    let (link, node) = choose::by_key(&app, &client)?;
    let mut request = Request::new(full(Value::Object(credentials).to_string()));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    forward_body(&link, &node, request, &link.path(version, "/auth")).await
}

/// `GET /plugins/privileges`
pub(crate) async fn plugin_privileges(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let remote = query.get("remote").unwrap_or("");
    if remote.is_empty() || !view::images::is_reference(remote) {
        return Err(Error::invalid(format!("invalid reference format: no plugin can be called {remote:?}")));
    }
    ask(call).await
}

/// `GET /images/search`, `GET /distribution/{name}/json`: the client's builder asks.
pub(crate) async fn ask(call: Call) -> Result<Response<Body>, Error> {
    let (link, node) = choose::by_key(&call.app, &call.client)?;
    let path = link.path(call.version, &call.with_query(&call.captured.with_name(&call.captured.name)));
    forward(&link, &node, call.request, &path).await
}
