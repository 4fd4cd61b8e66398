//! `hasher`: hashes, any number at a time.

use std::{io, time::Duration};

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, time::sleep};

use crate::{Answer, http::serve};

/// What one request costs.
const DELAY: Duration = Duration::from_millis(100);

/// The most bytes that one request may bring.
const LIMIT: u64 = 100_000_000;

/// Serves `GET /` and `POST /`.
///
/// # Errors
/// The listener's.
pub async fn run(listener: TcpListener) -> io::Result<()> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let handler = move |request: Request<Incoming>| {
        let hostname = hostname.clone();
        async move {
            match (request.method(), request.uri().path()) {
                (&Method::GET, "/") => {
                    Answer::ok("text/plain; charset=utf-8", format!("HASHER running on {hostname}\n"))
                }
                (&Method::POST, "/") => hash(request.into_body()).await,
                (_, "/") => Answer::refuse(StatusCode::METHOD_NOT_ALLOWED, "want POST / with the bytes to hash"),
                _ => Answer::refuse(StatusCode::NOT_FOUND, "want POST / with the bytes to hash"),
            }
        }
    };
    serve(listener, handler).await
}

async fn hash(mut body: Incoming) -> Answer {
    sleep(DELAY).await;
    let (mut hasher, mut count) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_)) => continue,
            Err(error) => return Answer::refuse(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}")),
        };
        count += data.len() as u64;
        if count > LIMIT {
            return Answer::refuse(StatusCode::PAYLOAD_TOO_LARGE, "at most 100000000 bytes at a time");
        }
        hasher.update(&data);
    }
    let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Answer::ok("text/plain", hash)
}
