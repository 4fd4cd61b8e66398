//! The services as their callers meet them: over real sockets, with a real Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use dockercoins::{
    hasher, rng, webui,
    worker::{self, Services},
};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// Conditions are waited for so long on a machine that has much else to do.
const WAIT: Duration = Duration::from_secs(30);

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn start_rng() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(rng::run(listener));
    address
}

async fn start_hasher() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(hasher::run(listener));
    address
}

/// A request, and the whole answer: its status, its head and its body.
async fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // Who refuses a body may do so before it is there.
    stream.write_all(body).await.ok();
    let mut answer = Vec::new();
    timeout(WAIT, stream.read_to_end(&mut answer)).await.unwrap().ok();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    request(address, "GET", path, b"").await
}

/// Debian's Redis on a port of its own; it ends with this.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    async fn start() -> Self {
        // Free a moment ago; nobody else on this machine asks the kernel for this one at the same time.
        let port = listener().await.1.port();
        Self::start_at(port).await
    }

    async fn start_at(port: u16) -> Self {
        // It goes with the test, however that ends.
        let mut redis = Command::new("setpriv");
        let arguments = [
            "--pdeathsig",
            "KILL",
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
        ];
        let redis = redis.args(arguments).arg(port.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let redis = Self { child: redis.spawn().expect("apt-get install redis-server"), port };
        wait_for(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        redis
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

async fn wait_for(mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, poll).await.expect("in time");
}

#[tokio::test]
async fn rng_gives_the_bytes_that_were_asked_for() {
    let rng = start_rng().await;
    let (status, head, body) = get(rng, "/32").await;
    assert_eq!((status, body.len()), (200, 32));
    assert!(head.to_lowercase().contains("content-type: application/octet-stream"), "{head}");
    assert_ne!(body, get(rng, "/32").await.2);
    assert_eq!(get(rng, "/0").await.2.len(), 0);
    assert!(String::from_utf8(get(rng, "/").await.2).unwrap().starts_with("RNG running on "));
}

#[tokio::test]
async fn rng_refuses_what_is_no_number_or_too_much() {
    let rng = start_rng().await;
    for path in ["/x", "/-1", "/1.5", "/1x", "/%31", "/1/2"] {
        assert_eq!(get(rng, path).await.0, 400, "{path}");
    }
    for path in ["/100000001", "/99999999999999999999999999"] {
        assert_eq!(get(rng, path).await.0, 413, "{path}");
    }
    assert_eq!(request(rng, "POST", "/1", b"").await.0, 405);
}

#[tokio::test]
async fn rng_serves_one_at_a_time_and_hasher_any_number() {
    let (rng, hasher) = (start_rng().await, start_hasher().await);
    let began = Instant::now();
    join_all((0..5).map(|_| get(rng, "/1"))).await;
    let one_by_one = began.elapsed();
    assert!(one_by_one >= Duration::from_millis(500), "{one_by_one:?}");
    // Somebody who does not finish keeps nobody waiting.
    let mut slow = TcpStream::connect(hasher).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe").await.unwrap();
    let hashed = join_all((0..50).map(|_| request(hasher, "POST", "/", b"x"))).await;
    assert!(hashed.iter().all(|(status, _, _)| *status == 200));
    slow.write_all(b"llo").await.unwrap();
    let mut answer = [0; 15];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn hasher_hashes() {
    let hasher = start_hasher().await;
    let (status, head, body) = request(hasher, "POST", "/", b"hello").await;
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("content-type: text/plain"), "{head}");
    assert_eq!(String::from_utf8(body).unwrap(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    let empty = request(hasher, "POST", "/", b"").await.2;
    assert!(empty.starts_with(b"e3b0c44298fc1c14"));
    assert!(get(hasher, "/").await.2.starts_with(b"HASHER running on "));
    assert_eq!(get(hasher, "/nothing").await.0, 404);
    assert_eq!(request(hasher, "PUT", "/", b"").await.0, 405);
}

#[tokio::test]
async fn webui_counts_says_when_redis_is_away_and_recovers() {
    let redis = Redis::start().await;
    let (listener, address) = listener().await;
    let (url, port) = (redis.url(), redis.port);
    tokio::spawn(async move { webui::run(listener, &url).await });
    let (status, head, _) = get(address, "/").await;
    assert!(status == 302 && head.to_lowercase().contains("location: /index.html"), "{head}");
    let page = String::from_utf8(get(address, "/index.html").await.2).unwrap();
    assert!(page.contains("<title>DockerCoins</title>") && page.contains("uPlot.iife.min.js"));
    for file in ["/page.js", "/uPlot.iife.min.js", "/uPlot.min.css"] {
        assert_eq!(get(address, file).await.0, 200, "{file}");
    }
    assert_eq!(get(address, "/nothing").await.0, 404);

    let counters = async || {
        let (status, _, body) = get(address, "/json").await;
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    let (status, counted) = counters().await;
    assert_eq!((status, &counted["coins"], &counted["hashes"]), (200, &0.into(), &0.into()));
    assert!(counted["now"].as_f64().unwrap() > 1.6e9);
    drop(redis);
    let (status, said) = counters().await;
    assert!(status == 503 && said["error"].as_str().unwrap().starts_with("redis: "), "{said}");
    let _redis = Redis::start_at(port).await;
    wait_for(async || counters().await.0 == 200).await;
}

#[tokio::test]
async fn a_worker_mines_and_outlives_its_services() {
    let redis = Redis::start().await;
    let (rng, hasher) = (start_rng().await, start_hasher().await);
    let (url, port) = (redis.url(), redis.port);
    let services =
        Services { rng: format!("http://{rng}/32"), hasher: format!("http://{hasher}/"), redis: url.clone() };
    for _ in 0..3 {
        tokio::spawn(worker::run(services.clone(), false));
    }
    let count = async |command: &str, key: &str| -> i64 {
        let read = async {
            let mut redis = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
            redis::cmd(command).arg(key).query_async::<Option<i64>>(&mut redis).await
        };
        read.await.ok().flatten().unwrap_or(0)
    };
    wait_for(async || count("GET", "hashes").await >= 10 && count("HLEN", "wallet").await >= 1).await;
    // Redis loses everything; the workers notice, wait and go on.
    drop(redis);
    let _redis = Redis::start_at(port).await;
    wait_for(async || count("GET", "hashes").await >= 5).await;
}
