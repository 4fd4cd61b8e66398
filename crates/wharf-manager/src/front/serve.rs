//! Connections: one task each, HTTP/1.1 with upgrades.

use std::{sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{App, Listener, dispatch, hijack::Hijackable, listen::Connection};

/// Open connections of all clients together; further ones wait in the kernel's queue. `docker run -d` may leave one
/// behind that waits for its container, so this is generous.
const CONNECTIONS: usize = 16_384;

/// A client that has not sent a request's head by then is cut off. Clients keep idle connections for long.
const HEAD_WITHIN: Duration = Duration::from_secs(600);

/// Requests under way have this long to end when the manager is told to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Serves the API on a listener until told to stop; then lets requests under way end, for a while.
pub(crate) async fn serve(app: App, listeners: Vec<Listener>, stop: CancellationToken) {
    let (connections, permits) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let (app, stop, connections, permits) = (app.clone(), stop.clone(), connections.clone(), Arc::clone(&permits));
        accepting.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stop.cancelled() => return,
                };
                match accepted {
                    Ok(connection) => {
                        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                        let serve = connection_task(app.clone(), connection, stop.clone());
                        connections.spawn(async move {
                            serve.await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors, say: it passes.
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
    }
    while accepting.join_next().await.is_some() {}
    connections.close();
    if tokio::time::timeout(DRAIN_WITHIN, connections.wait()).await.is_err() {
        tracing::info!("{} connections are cut off", connections.len());
    }
}

async fn connection_task(app: App, connection: Connection, stop: CancellationToken) {
    let established = tokio::select! {
        established = connection.established() => established,
        () = stop.cancelled() => return,
    };
    let (stream, peer) = match established {
        Ok(established) => established,
        Err(error) => {
            tracing::debug!("a client's handshake failed: {error}");
            return;
        }
    };
    let service = service_fn(move |request| {
        let answer = dispatch::answer(app.clone(), request, peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        // As in Docker's own server: a client that closes its side of a plain request has gone away, and what it waited
        // for is ended. `docker run -d` leaves a `wait` behind each time. After an upgrade, half-closes are passed on.
        .half_close(false)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Hijackable::new(stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection broke off: {error}");
    }
}
