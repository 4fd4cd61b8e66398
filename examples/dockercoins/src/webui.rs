//! `webui`: how fast the coins are mined.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::{net::TcpListener, sync::Mutex, time::timeout};

use crate::{Answer, http::serve};

/// A page that is looked at once a second cannot wait longer.
const REDIS_WITHIN: Duration = Duration::from_secs(2);

/// Files of the page: path, type, content.
const FILES: [(&str, &str, &str); 4] = [
    ("/index.html", "text/html; charset=utf-8", include_str!("../web/index.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("../web/page.js")),
    ("/uPlot.iife.min.js", "text/javascript; charset=utf-8", include_str!("../web/uPlot.iife.min.js")),
    ("/uPlot.min.css", "text/css; charset=utf-8", include_str!("../web/uPlot.min.css")),
];

/// The way to Redis; made anew after every failure.
struct Counters {
    url: String,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// Serves the page and `GET /json`. `redis` is `redis://redis/` in the containers.
///
/// # Errors
/// The listener's.
pub async fn run(listener: TcpListener, redis: &str) -> io::Result<()> {
    let counters = Arc::new(Counters { url: redis.to_owned(), connection: Mutex::new(None) });
    let handler = move |request: Request<Incoming>| {
        let counters = Arc::clone(&counters);
        async move {
            if request.method() != Method::GET {
                return Answer::refuse(StatusCode::METHOD_NOT_ALLOWED, "want GET");
            }
            match request.uri().path() {
                "/" => Answer { location: Some("/index.html"), ..Answer::refuse(StatusCode::FOUND, "see /index.html") },
                "/json" => counters.json().await,
                path => match FILES.iter().find(|(known, _, _)| *known == path) {
                    Some((_, kind, content)) => Answer::ok(kind, *content),
                    None => Answer::refuse(StatusCode::NOT_FOUND, "there is /index.html and /json"),
                },
            }
        }
    };
    serve(listener, handler).await
}

impl Counters {
    async fn json(&self) -> Answer {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let read = timeout(REDIS_WITHIN, self.read()).await;
        let (status, body) = match read {
            Ok(Ok((coins, hashes))) => {
                (StatusCode::OK, serde_json::json!({ "coins": coins, "hashes": hashes, "now": now }))
            }
            failed => {
                *self.connection.lock().await = None;
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no answer within {REDIS_WITHIN:?}"),
                };
                (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "error": format!("redis: {why}"), "now": now }))
            }
        };
        Answer { status, ..Answer::ok("application/json", body.to_string()) }
    }

    async fn read(&self) -> redis::RedisResult<(i64, i64)> {
        let known = self.connection.lock().await.clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => {
                let made = redis::Client::open(self.url.as_str())?.get_multiplexed_async_connection().await?;
                self.connection.lock().await.insert(made).clone()
            }
        };
        let coins: i64 = connection.hlen("wallet").await?;
        let hashes: Option<i64> = connection.get("hashes").await?;
        Ok((coins, hashes.unwrap_or(0)))
    }
}
