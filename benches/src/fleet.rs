//! The manager over simulated engines: hundreds, thousands, ten thousand.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use http::{Method, header};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::Instant,
};
use wharf_engine::{Client, empty};
use wharf_model::Endpoint;

use crate::{
    measure::{Row, percentile, post},
    subject::Manager,
};

/// A request of the bench may take so long: the largest answers are hundreds of megabytes.
const WITHIN: Duration = Duration::from_secs(120);

/// Room for what is read at once.
const READ: usize = 256 << 10;

/// One size of a fleet, and how much is measured on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) engines: usize,
    pub(crate) containers: usize,
    /// Requests per row of latency.
    pub(crate) requests: usize,
    /// Containers created per row.
    pub(crate) creates: usize,
}

/// The sizes that `make bench` measures.
pub(crate) const SIZES: &[Size] = &[
    Size { engines: 100, containers: 50, requests: 500, creates: 3000 },
    Size { engines: 1000, containers: 0, requests: 300, creates: 6000 },
    Size { engines: 1000, containers: 50, requests: 300, creates: 6000 },
    Size { engines: 10_000, containers: 100, requests: 30, creates: 2000 },
];

/// Engines that one simulator holds: a process may have only so many files open.
const ENGINES_EACH: usize = 4000;

/// The simulators in processes of their own, which end with this.
struct Simulated {
    children: Vec<Child>,
    discovery: PathBuf,
}

impl Simulated {
    async fn start(binary: &Path, folder: &Path, size: Size) -> anyhow::Result<Self> {
        let mut simulated = Self { children: Vec::new(), discovery: folder.join("engines") };
        let mut parts = Vec::new();
        for first in (0..size.engines).step_by(ENGINES_EACH) {
            let (engines, part) = (ENGINES_EACH.min(size.engines - first), folder.join(format!("engines-{first}")));
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .arg(binary)
                .args(["--engines", &engines.to_string(), "--first", &first.to_string()])
                .args(["--containers", &size.containers.to_string()])
                .args(["--discovery", &part.display().to_string()])
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| binary.display().to_string())?;
            simulated.children.push(child);
            parts.push((part, engines));
        }
        let mut all = String::new();
        for (part, engines) in parts {
            all += &written(&part, engines).await?;
        }
        std::fs::write(&simulated.discovery, all)?;
        Ok(simulated)
    }

    /// The engine of that number.
    fn engine(&self, number: usize) -> anyhow::Result<Client> {
        let written = std::fs::read_to_string(&self.discovery)?;
        let endpoint: Endpoint = written.lines().nth(number).context("an engine")?.parse()?;
        Ok(Client::new(endpoint))
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().and_then(|()| child.wait()).ok();
        }
    }
}

/// What a simulator writes of its engines, when all of them are in it.
async fn written(path: &Path, engines: usize) -> anyhow::Result<String> {
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let written = std::fs::read_to_string(path).unwrap_or_default();
        if written.lines().count() == engines {
            return Ok(written);
        }
    }
    bail!("the simulator does not start")
}

/// Measures one size.
pub(crate) async fn measure(wharf: &Path, sim: &Path, size: Size) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let simulated = Simulated::start(sim, folder.path(), size).await?;
    let of = format!("{}×{}", size.engines, size.containers);
    let mut rows = Vec::new();
    let mut add = |what: &str, figure: f64, unit| rows.push(Row::single(&format!("{of}: {what}"), figure, unit));

    let began = Instant::now();
    // Simulated engines run no agents.
    let discovery = format!("file://{}", simulated.discovery.display());
    let manager = Manager::start(wharf, folder.path(), &discovery, &["--no-agents"])?;
    let fleet = Client::new(manager.endpoint());
    let everything = size.engines * size.containers;
    healthy(&fleet, size, everything).await?;
    add("all healthy after", began.elapsed().as_secs_f64(), "s");
    // What is looked into afterwards is done when the processor time no longer grows.
    let read = Instant::now();
    let mut used = manager.cpu()?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = manager.cpu()?;
        if now.saturating_sub(used) < Duration::from_millis(400) || read.elapsed() > WITHIN {
            break;
        }
        used = now;
    }
    add("all inspected after, about", began.elapsed().as_secs_f64(), "s");
    let before = manager.cpu()?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let used = manager.cpu()?.saturating_sub(before).as_secs_f64();
    add("CPU at rest, of one core", used * 5.0, "%");
    add("memory at rest", manager.resident()?, "MiB");
    add("memory, peak of the start", manager.peak()?, "MiB");

    let name = format!("/v1.41/containers/c{}-{}/json", size.engines / 2, size.containers / 2);
    let mut paths = vec![("info", "/v1.41/info".to_owned())];
    if everything > 0 {
        let none = "/v1.41/containers/json?all=1&filters=%7B%22label%22%3A%5B%22no%3Dsuch%22%5D%7D";
        paths.push(("ps", "/v1.41/containers/json?all=1".to_owned()));
        paths.push(("ps limit=10", "/v1.41/containers/json?limit=10".to_owned()));
        paths.push(("ps, label that nothing has", none.to_owned()));
        paths.push(("inspect by name", name));
    }
    for (what, path) in &paths {
        let clients: &[usize] = if *what == "ps" { &[1, 8] } else { &[1] };
        for clients in clients {
            let requests = if *what == "ps" { size.requests.min(60) } else { size.requests };
            let mut times = requests_of(&manager.endpoint(), path, *clients, requests).await?;
            let with = if *clients == 1 { String::new() } else { format!(", {clients} clients") };
            add(&format!("{what}{with}, p50"), percentile(&mut times, 0.5), "ms");
            add(&format!("{what}{with}, p99"), percentile(&mut times, 0.99), "ms");
        }
    }
    let engine = simulated.engine(size.engines / 2)?;
    if everything > 0 {
        let mut times = requests_of(engine.endpoint(), &paths[paths.len() - 1].1, 1, size.requests).await?;
        add("inspect, the engine itself, p99", percentile(&mut times, 0.99), "ms");
    }

    for clients in [1, 32, 100] {
        let began = Instant::now();
        let used = manager.cpu()?;
        let made = creates(&fleet, clients, size.creates).await? as f64;
        let (took, used) = (began.elapsed(), manager.cpu()?.saturating_sub(used));
        add(&format!("creates per second, {clients} clients"), made / took.as_secs_f64(), "/s");
        // What it needs of a processor, however many others there are to share it with.
        add(
            &format!("the manager's processor time per create, {clients} clients"),
            used.as_secs_f64() * 1e3 / made,
            "ms",
        );
    }
    let (load, mut delays) = tokio::join!(creates(&fleet, 32, size.creates), delays(&fleet, &engine, 200),);
    load?;
    let delays = delays.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    add("event to a subscriber while 32 clients create, p50", percentile(delays, 0.5), "ms");
    add("event to a subscriber while 32 clients create, p99", percentile(delays, 0.99), "ms");
    add("memory, peak", manager.peak()?, "MiB");
    Ok(rows)
}

/// Waits until every engine is healthy and every container known.
async fn healthy(fleet: &Client, size: Size, containers: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        if let Ok(info) = fleet.get("/v1.41/info", WITHIN).await {
            let info: serde_json::Value = serde_json::from_slice(&info)?;
            let status = info["SystemStatus"].as_array().context("SystemStatus")?;
            let healthy = status.iter().filter(|line| line[1] == "Healthy").count();
            if healthy == size.engines && info["Containers"] == containers {
                return Ok(());
            }
        }
        ensure!(began.elapsed() < WITHIN, "not all engines became healthy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The times that `count` requests of `clients` take.
async fn requests_of(of: &Endpoint, path: &str, clients: usize, count: usize) -> anyhow::Result<Vec<Duration>> {
    ask(of, path, &mut Vec::new()).await?;
    let times = try_join_all((0..clients).map(|_| async move {
        let (mut times, mut answer) = (Vec::new(), Vec::new());
        for _ in 0..count.div_ceil(clients) {
            let began = Instant::now();
            ask(of, path, &mut answer).await?;
            times.push(began.elapsed());
        }
        anyhow::Ok(times)
    }));
    Ok(times.await?.into_iter().flatten().collect())
}

/// One request on a connection of its own, its answer read as fast as it comes: a client library would measure itself.
async fn ask(of: &Endpoint, path: &str, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    let request = format!("GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
    let exchange = async {
        match of {
            Endpoint::Unix(path) => talk(UnixStream::connect(path).await?, &request, answer).await,
            Endpoint::Tcp { host, port } => talk(TcpStream::connect((&**host, *port)).await?, &request, answer).await,
        }
    };
    tokio::time::timeout(WITHIN, exchange).await??;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(200)])
    );
    Ok(())
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    answer: &mut Vec<u8>,
) -> std::io::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    while stream.read_buf(answer).await? > 0 {
        if answer.capacity() - answer.len() < READ {
            answer.reserve(READ.max(answer.len()));
        }
    }
    Ok(())
}

/// Creates containers; how many.
async fn creates(fleet: &Client, clients: usize, count: usize) -> anyhow::Result<usize> {
    let each = count / clients;
    try_join_all((0..clients).map(|_| async move {
        for _ in 0..each {
            post(fleet, "/v1.41/containers/create", "{\"Image\":\"busybox\",\"Cmd\":[\"true\"]}").await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(each * clients)
}

/// How long events of one engine take to a subscriber of the fleet: each from the moment that the engine gives it, by the
/// time that it writes into it.
async fn delays(fleet: &Client, engine: &Client, count: usize) -> anyhow::Result<Vec<Duration>> {
    let container = post(engine, "/v1.41/containers/create?name=told", "{\"Image\":\"busybox\"}").await?;
    let id = container["Id"].as_str().context("an id")?.to_owned();
    let filters = format!("%7B%22container%22%3A%5B%22{id}%22%5D%7D");
    let request = fleet.request(Method::GET, &format!("/v1.41/events?filters={filters}"), empty())?;
    let mut events = fleet.send(request).await?.into_body();
    let mut delays = Vec::new();
    for number in 0..count {
        let action = if number % 2 == 0 { "start" } else { "kill" };
        let mut request = engine.request(Method::POST, &format!("/v1.41/containers/{id}/{action}"), empty())?;
        request.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("0"));
        engine.call(request, WITHIN).await?;
        // Every action tells of itself last; a kill also of a death.
        loop {
            let frame = tokio::time::timeout(WITHIN, events.frame()).await?.context("the stream ended")??;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            let Ok(data) = frame.into_data() else { continue };
            let mut seen = false;
            for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event: serde_json::Value = serde_json::from_slice(line)?;
                let sent = Duration::from_nanos(event["timeNano"].as_u64().context("timeNano")?);
                delays.push(now.saturating_sub(sent));
                seen |= event["Action"] == action;
            }
            if seen {
                break;
            }
        }
    }
    Ok(delays)
}
