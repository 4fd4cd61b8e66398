//! `worker`: asks for bytes, has them hashed, keeps the coins.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::say;

/// What a unit of work costs here; the two services add as much each.
const DELAY: Duration = Duration::from_millis(100);

/// How often the count of hashes is brought up to date.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// After an error: the first pause, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// A service that has not answered by then will not.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A hash is 64 bytes, and 32 random ones are asked for.
const ANSWER_LIMIT: usize = 4096;

/// Where the services are. In the containers they are found by their names.
#[derive(Debug, Clone)]
pub struct Services {
    /// `http://rng/32`
    pub rng: String,
    /// `http://hasher/`
    pub hasher: String,
    /// `redis://redis/`
    pub redis: String,
}

/// What goes wrong with a unit of work.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}: {1}")]
    Http(String, String),
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
}

/// A worker at work.
struct Worker {
    services: Services,
    http: Client<HttpConnector, Full<Bytes>>,
    redis: Option<MultiplexedConnection>,
    debug: bool,
    done: u64,
    tell_at: Option<Instant>,
}

impl Default for Services {
    fn default() -> Self {
        let [rng, hasher, redis] = ["http://rng/32", "http://hasher/", "redis://redis/"].map(str::to_owned);
        Self { rng, hasher, redis }
    }
}

/// Works for ever. With `debug`, every unit of work is told of.
pub async fn run(services: Services, debug: bool) -> Infallible {
    // A connection per request: whoever balances connections can balance this.
    let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let mut worker = Worker { services, http, redis: None, debug, done: 0, tell_at: None };
    let mut pause = PAUSE[0];
    loop {
        match worker.unit().await {
            Ok(()) => pause = PAUSE[0],
            Err(error) => {
                say(&format!("ERROR: {error}; trying again in {} s", pause.as_secs()));
                worker.redis = None;
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE[1]);
            }
        }
    }
}

impl Worker {
    async fn unit(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.tell_at.is_none_or(|at| now >= at) {
            say(&format!("INFO: {} units of work done, updating hash counter", self.done));
            let done = self.done;
            let _: i64 = self.redis().await?.incr("hashes", done).await?;
            self.done = 0;
            self.tell_at = Some(now + TELL_EVERY);
        }
        if self.debug {
            say("DEBUG: Doing one unit of work");
        }
        sleep(DELAY).await;
        let bytes = self.fetch(Method::GET, self.services.rng.clone(), Bytes::new()).await?;
        let hash = self.fetch(Method::POST, self.services.hasher.clone(), bytes.clone()).await?;
        let hash = String::from_utf8_lossy(&hash).into_owned();
        if hash.starts_with('0') {
            say(&format!("INFO: Coin found: {}...", &hash[..hash.len().min(8)]));
            let created: i64 = self.redis().await?.hset("wallet", &hash, &bytes[..]).await?;
            if created == 0 {
                say("INFO: We already had that coin");
            }
        }
        self.done += 1;
        Ok(())
    }

    async fn redis(&mut self) -> Result<&mut MultiplexedConnection, Error> {
        match &mut self.redis {
            Some(redis) => Ok(redis),
            unconnected => {
                let redis =
                    redis::Client::open(self.services.redis.as_str())?.get_multiplexed_async_connection().await?;
                Ok(unconnected.insert(redis))
            }
        }
    }

    async fn fetch(&self, method: Method, url: String, body: Bytes) -> Result<Bytes, Error> {
        let failed = |why: String| Error::Http(url.clone(), why);
        let request = Request::builder().method(method).uri(&url).header("content-type", "application/octet-stream");
        let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
        let fetch = async {
            let answer = self.http.request(request).await.map_err(|error| failed(causes(&error)))?;
            if !answer.status().is_success() {
                return Err(failed(answer.status().to_string()));
            }
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await;
            Ok(body.map_err(|error| failed(error.to_string()))?.to_bytes())
        };
        timeout(ANSWER_WITHIN, fetch).await.map_err(|_| failed("no answer".to_owned()))?
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
