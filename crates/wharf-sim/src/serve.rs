//! Connections to one engine, and the faults that befall them.

use std::{io, sync::Arc};

use http::{Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::JoinSet,
};

use crate::{
    Engine,
    answer::Refusal,
    api::{self, Body},
};

/// Where an engine listens.
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Serves an engine until it is dropped.
pub(crate) async fn serve(engine: Arc<Engine>, socket: Socket) {
    let mut connections = JoinSet::new();
    loop {
        let accepted: io::Result<Box<dyn Io>> = match &socket {
            Socket::Tcp(socket) => match socket.accept().await {
                Ok((stream, _)) => stream.set_nodelay(true).map(|()| Box::new(stream) as Box<dyn Io>),
                Err(error) => Err(error),
            },
            Socket::Unix(socket) => socket.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Io>),
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(stream) if !engine.faults.borrow().refusing => {
                drop(connections.spawn(connection(Arc::clone(&engine), stream)))
            }
            Ok(_) => {}
            // Out of file descriptors, say: it passes.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn connection(engine: Arc<Engine>, stream: Box<dyn Io>) {
    let mut boots = engine.boots.subscribe();
    boots.mark_unchanged();
    let service = service_fn(move |request| faulty(Arc::clone(&engine), request));
    let serve = http1::Builder::new().half_close(false).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A connection that breaks off is the client's business.
        _ = serve => {}
        _ = boots.changed() => {}
    }
}

/// Answers a request as well as the engine's faults let it.
async fn faulty(engine: Arc<Engine>, request: http::Request<Incoming>) -> Result<Response<Body>, io::Error> {
    engine.count_request();
    let faults = engine.faults.borrow().clone();
    // The simulator's own requests come through whatever the engine suffers from.
    if request.uri().path().starts_with("/_sim/") {
        return Ok(api::answer(&engine, request).await);
    }
    if let Some(delay) = faults.delay() {
        tokio::time::sleep(delay).await;
    }
    if faults.hung {
        let mut lifted = engine.faults.subscribe();
        lifted.wait_for(|faults| !faults.hung).await.ok();
    }
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    if engine.throw(faults.reset) {
        return Err(reset());
    }
    if engine.throw(faults.failing) {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(api::refused(&Refusal { status, message: "the simulated engine fails".to_owned() }));
    }
    let changes = api::changes(&request);
    let answer = api::answer(&engine, request).await;
    if changes && engine.throw(faults.lose_answers) {
        return Err(reset());
    }
    Ok(answer)
}
