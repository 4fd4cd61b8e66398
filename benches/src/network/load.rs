//! What goes over a way: as much as possible, by one stream and by several; and small requests with their answers.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::{Fleet, namespace::join, paths::Path, times, wait_for};
use crate::subject::cpu_of;

/// Each figure of a round is measured so long.
const SECONDS: &str = "1";
const ROUND_TRIPS_FOR: Duration = Duration::from_millis(700);

/// Connections with requests, each one's next after its answer.
const CONNECTIONS: usize = 8;

/// Bytes of a request, and of its answer.
const REQUEST: usize = 100;
const ANSWER: usize = 400;

/// An answer that does not come is an error, not a slow one.
const WITHIN: Duration = Duration::from_secs(5);

/// What the rounds give of one way.
#[derive(Debug, Default)]
pub(super) struct Figures {
    one: Vec<Throughput>,
    four: Vec<Throughput>,
    round_trips: Vec<f64>,
}

#[derive(Debug)]
struct Throughput {
    gbits: f64,
    /// Gigabytes per second of a processor.
    per_cpu: f64,
}

/// A figure's name, its unit, and where it is.
type Figure = (&'static str, &'static str, fn(&Figures) -> Vec<f64>);

/// Of a machine that has much else to do, what is carried per second of a processor says more than what is carried.
pub(super) const FIGURES: [Figure; 5] = [
    ("throughput, 1 stream", "Gbit/s", |figures| figures.one.iter().map(|one| one.gbits).collect()),
    ("throughput, 4 streams", "Gbit/s", |figures| figures.four.iter().map(|four| four.gbits).collect()),
    ("round trips", "/s", |figures| figures.round_trips.clone()),
    (PER_CPU[0], "GB/s", |figures| figures.one.iter().map(|one| one.per_cpu).collect()),
    (PER_CPU[1], "GB/s", |figures| figures.four.iter().map(|four| four.per_cpu).collect()),
];

/// Those that have no goal.
pub(super) const PER_CPU: [&str; 2] = ["per processor, 1 stream", "per processor, 4 streams"];

/// Measures one thing after the other, each on all ways in this order: so those that are compared follow each other closely.
pub(super) fn round(paths: &[(usize, &Path)], helpers: &Helpers, figures: &mut [Figures]) -> anyhow::Result<()> {
    for (index, path) in paths {
        figures[*index].one.push(throughput(path, "1", helpers).context(path.name)?);
    }
    for (index, path) in paths {
        figures[*index].four.push(throughput(path, "4", helpers).context(path.name)?);
    }
    for (index, path) in paths {
        figures[*index].round_trips.push(round_trips(path).context(path.name)?);
    }
    Ok(())
}

// === throughput ===

/// Takes what is sent over a way, until dropped.
pub(super) struct Server(Child);

impl Server {
    pub(super) fn start(path: &Path, folder: &std::path::Path) -> anyhow::Result<Self> {
        let log = folder.join(path.name);
        let mut iperf = path.to.command("iperf3");
        iperf.args(["--server", "--bind", &path.address.to_string(), "--forceflush"]);
        let child = iperf.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::null()).spawn()?;
        let server = Self(child);
        let listens = || Ok(std::fs::read_to_string(&log)?.contains("listening").then_some(()));
        wait_for("iperf3 listens", listens)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

/// Who else works for packets: the agents, and what the kernel puts off.
pub(super) struct Helpers(Vec<u32>);

impl Helpers {
    pub(super) fn find(fleet: &Fleet<'_>) -> anyhow::Result<Self> {
        let mut found = times::agents(fleet)?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.starts_with("ksoftirqd") {
                found.extend(entry.file_name().to_str().and_then(|pid| pid.parse::<u32>().ok()));
            }
        }
        Ok(Self(found))
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        self.0.iter().map(|pid| cpu_of(*pid)).sum()
    }
}

fn throughput(path: &Path, streams: &str, helpers: &Helpers) -> anyhow::Result<Throughput> {
    let before = helpers.cpu()?;
    let mut iperf = path.from.command("iperf3");
    iperf.args(["--client", &path.address.to_string(), "--time", SECONDS, "--parallel", streams, "--json"]);
    let output = iperf.stdin(Stdio::null()).output()?;
    let helped = helpers.cpu()?.saturating_sub(before).as_secs_f64();
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.success(), "iperf3: {}", answer["error"]);
    let end = &answer["end"];
    let number = |value: &Value| value.as_f64().with_context(|| format!("iperf3 answered {end}"));
    let received = &end["sum_received"];
    // Per cent of the time that it took; packets are mostly carried at their sender's expense.
    let (sender, receiver) =
        (&end["cpu_utilization_percent"]["host_total"], &end["cpu_utilization_percent"]["remote_total"]);
    let used = (number(sender)? + number(receiver)?) / 100.0 * number(&received["seconds"])?;
    Ok(Throughput {
        gbits: number(&received["bits_per_second"])? / 1e9,
        per_cpu: number(&received["bytes"])? / 1e9 / (used + helped),
    })
}

// === round trips ===

/// Small requests per second that are answered.
fn round_trips(path: &Path) -> anyhow::Result<f64> {
    let (bound, port) = mpsc::channel();
    let server = path.to.spawn(move || answer_all(&bound));
    let Ok(port) = port.recv() else {
        return join(server).map(|()| f64::NAN);
    };
    let to = SocketAddr::from((path.address, port));
    let clients = path.from.spawn(move || {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| std::thread::spawn(move || ask(to))).collect();
        clients.into_iter().map(join).sum::<anyhow::Result<f64>>()
    });
    join(clients)
}

fn answer_all(bound: &mpsc::Sender<u16>) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    bound.send(listener.local_addr()?.port())?;
    for _ in 0..CONNECTIONS {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut request = [0; REQUEST];
            while stream.read_exact(&mut request).and_then(|()| stream.write_all(&[0; ANSWER])).is_ok() {}
        });
    }
    Ok(())
}

fn ask(to: SocketAddr) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect_timeout(&to, WITHIN)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WITHIN))?;
    let (mut answers, mut answer) = (0_u32, [0; ANSWER]);
    let began = Instant::now();
    while began.elapsed() < ROUND_TRIPS_FOR {
        stream.write_all(&[0; REQUEST])?;
        stream.read_exact(&mut answer)?;
        answers += 1;
    }
    Ok(f64::from(answers) / began.elapsed().as_secs_f64())
}
