use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections served at once; others wait in the kernel's queue.
const CONNECTIONS: usize = 4096;

/// A client that has not sent a request's head by then is cut off.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// What a service answers.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body's type.
    pub kind: &'static str,
    /// The body.
    pub body: Bytes,
    /// Where to look instead.
    pub location: Option<&'static str>,
}

impl Answer {
    /// 200 and a body.
    pub fn ok(kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, kind, body: body.into(), location: None }
    }

    /// Another status, and a line that says why.
    pub fn refuse(status: StatusCode, why: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{why}\n").into(), location: None }
    }
}

/// Answers requests until the listener fails.
///
/// # Errors
/// The listener's.
pub async fn serve<F>(
    listener: TcpListener,
    handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
) -> io::Result<()>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let (handler, permits) = (Arc::new(handler), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(respond(answer.await)) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
            // A client that goes away in the middle is its own affair.
            http.serve_connection(TokioIo::new(stream), service).await.ok();
            drop(permit);
        });
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    if let Some(location) = answer.location {
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(location));
    }
    response
}
