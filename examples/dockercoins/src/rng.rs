//! `rng`: random bytes, one request at a time.

use std::{io, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{net::TcpListener, sync::Mutex, time::sleep};

use crate::{Answer, http::serve};

/// What one request costs.
const DELAY: Duration = Duration::from_millis(100);

/// The most bytes that one request may ask for.
const LIMIT: usize = 100_000_000;

/// Serves `GET /` and `GET /N`.
///
/// # Errors
/// The listener's.
pub async fn run(listener: TcpListener) -> io::Result<()> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let turn = Arc::new(Mutex::new(()));
    let handler = move |request: http::Request<hyper::body::Incoming>| {
        let (turn, hostname) = (Arc::clone(&turn), hostname.clone());
        async move {
            if request.method() != Method::GET {
                return Answer::refuse(StatusCode::METHOD_NOT_ALLOWED, "want GET /NUMBER");
            }
            match request.uri().path().trim_start_matches('/') {
                "" => Answer::ok("text/plain; charset=utf-8", format!("RNG running on {hostname}\n")),
                number => bytes(number, &turn).await,
            }
        }
    };
    serve(listener, handler).await
}

async fn bytes(number: &str, turn: &Mutex<()>) -> Answer {
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Answer::refuse(StatusCode::BAD_REQUEST, "want GET /NUMBER, the number of bytes");
    }
    // A number that is too large to be one is certainly too large.
    let Some(count) = number.parse::<usize>().ok().filter(|count| *count <= LIMIT) else {
        return Answer::refuse(StatusCode::PAYLOAD_TOO_LARGE, "at most 100000000 bytes at a time");
    };
    // One at a time: this is the lesson of this service.
    let _turn = turn.lock().await;
    sleep(DELAY).await;
    match random(count) {
        Ok(bytes) => Answer::ok("application/octet-stream", bytes),
        Err(error) => Answer::refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn random(count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
