//! Passing a request on to an engine, and its answer back, as streams; upgraded where both want it.

use std::{any::Any, sync::Arc};

use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use wharf_engine::{Body, empty, incoming};
use wharf_model::Node;

use super::{answer::of_engine, hijack, newer::Newer, upload::Upload};
use crate::{Error, fleet::Link};

/// Headers that speak of one connection only, and of its engine rather than of us.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// What is to be kept, in a request's extensions, until the raw stream that it becomes has ended.
#[derive(Clone)]
pub(crate) struct WhileOpen(#[expect(dead_code, reason = "it is kept for its end alone")] Arc<dyn Any + Send + Sync>);

impl WhileOpen {
    pub(crate) fn new(kept: impl Any + Send + Sync) -> Self {
        Self(Arc::new(kept))
    }
}

/// Sends a request to an engine under another path, and gives its answer.
///
/// # Errors
/// [`wharf_model::Class::Unavailable`] if the engine does not answer. What it refuses is an answer, not an error.
pub(crate) async fn forward(
    link: &Link,
    node: &Node,
    request: Request<Upload>,
    path: &str,
) -> Result<Response<Body>, Error> {
    forward_body(link, node, request.map(incoming), path).await
}

/// The same, of a request whose body is no longer as it came.
///
/// # Errors
/// As [`forward`].
pub(crate) async fn forward_body(
    link: &Link,
    node: &Node,
    request: Request<Body>,
    path: &str,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    if let Some(newer) = parts.extensions.remove::<Newer>() {
        newer.check(link, node)?;
    }
    let raw = hijack::take_mark(&mut parts.headers);
    if raw {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let client = parts.extensions.remove::<OnUpgrade>().filter(|_| wants_upgrade(&parts.headers));
    parts.uri = path.parse::<Uri>().map_err(|error| Error::invalid(format!("{path:?} is not a path: {error}")))?;
    clean(&mut parts.headers, client.is_some());
    let held = parts.extensions.remove::<WhileOpen>();
    let sent = link.send(Request::from_parts(parts, body)).await;
    let mut response = sent.map_err(|error| of_engine(&error, node))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(passed_back(response));
    }
    let Some(client) = client else {
        return Err(Error::internal("the engine upgraded a connection that nobody asked it to upgrade"));
    };
    let engine = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        splice(client, engine).await;
        drop(held);
    });
    let (mut parts, _) = response.into_parts();
    clean(&mut parts.headers, !raw);
    Ok(Response::from_parts(parts, empty()))
}

/// An engine's answer as the client gets it.
pub(crate) fn passed_back(response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    clean(&mut parts.headers, false);
    Response::from_parts(parts, incoming(body))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    connection.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

fn clean(headers: &mut HeaderMap, upgrade: bool) {
    for name in &OF_THE_CONNECTION {
        if !(upgrade && *name == header::CONNECTION) {
            headers.remove(name);
        }
    }
    if !upgrade {
        headers.remove(header::UPGRADE);
    }
}

/// Copies both ways until both sides have ended; one side's end is passed on while the other still sends.
async fn splice(client: OnUpgrade, engine: OnUpgrade) {
    let (client, engine) = match tokio::try_join!(client, engine) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!("an upgrade broke off: {error}");
            return;
        }
    };
    let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
    const BUFFER: usize = 64 << 10;
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut engine, BUFFER, BUFFER).await {
        tracing::debug!("a raw stream broke off: {error}");
    }
}

/// An engine's answer as the client gets it; when it has ended, and before the client learns so, `last` is waited for.
/// What a client does next finds the state as the streamed work has left it.
pub(crate) fn passed_back_then(
    response: Response<Body>,
    last: impl Future<Output = ()> + Send + 'static,
) -> Response<Body> {
    response.map(|body| {
        let then = futures_util::stream::once(last).filter_map(|()| std::future::ready(None));
        let frames = BodyStream::new(body).chain(then);
        StreamBody::new(frames).boxed_unsync()
    })
}
