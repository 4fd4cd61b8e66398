//! What fleet networks cost those who start containers, what an agent's restart costs those who talk, and what agents hold.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::{
    Fleet, PLAIN, WITHIN,
    api::{Api, sleeper},
    namespace::{Namespace, join},
    paths::Path,
};
use crate::{
    measure::{Goal, Row, percentile},
    subject::status_mib,
};

/// Containers that are started on each kind of network.
const STARTS: usize = 20;

/// On a slow machine fewer will do.
const STARTS_LEAST: usize = 5;
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A container may start so much later than on a network of its engine alone.
const LATER_MS: f64 = 20.0;

/// Containers whose names are waited for.
const NAMES: usize = 10;

/// Packets while agents restart, and between each of them and the next.
const PINGS: &str = "1000";
const PING_EVERY: &str = "0.01";

/// Between two questions for a name.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// The processes of the agents.
pub(super) fn agents(fleet: &Fleet<'_>) -> anyhow::Result<Vec<u32>> {
    let of = |engine: &Api<'_>| {
        let agent = engine.get("/containers/wharf-agent/json")?;
        Ok(u32::try_from(Namespace::of(&agent)?.pid)?)
    };
    fleet.engines.iter().map(of).collect()
}

/// What the largest agent holds.
pub(super) fn memory(fleet: &Fleet<'_>) -> anyhow::Result<Row> {
    let held = agents(fleet)?.into_iter().map(|agent| status_mib(agent, "VmRSS:"));
    let held = held.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Row::single("resident memory of an agent", held.into_iter().fold(0.0, f64::max), "MiB"))
}

/// Packets that are lost while the agents at both ends restart, one after the other.
pub(super) fn losses(paths: &[Path], fleet: &Fleet<'_>) -> anyhow::Result<Vec<Row>> {
    let mut pings = Vec::new();
    for path in paths.iter().filter(|path| ["fleet", "encrypted"].contains(&path.name)) {
        let mut ping = path.from.command("busybox");
        ping.args(["ping", "-q", "-i", PING_EVERY, "-c", PINGS, "-W", "1", &path.address.to_string()]);
        pings.push((path.name, ping.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?));
    }
    let began = Instant::now();
    for node in [1, 2] {
        fleet.engine(node).post("/containers/wharf-agent/restart", "")?;
    }
    let took = began.elapsed();
    let mut rows = Vec::new();
    for (name, mut ping) in pings {
        ensure!(ping.try_wait()?.is_none(), "the agents' restarts took {took:?}, longer than the pings");
        let said = String::from_utf8(ping.wait_with_output()?.stdout)?;
        let count = |what: &str| {
            let words: Vec<_> = said.split([' ', '\n']).collect();
            let at = words.windows(3).find(|words| words[1] == "packets" && words[2].trim_end_matches(',') == what);
            at.and_then(|words| words[0].parse::<f64>().ok()).with_context(|| format!("ping said {said}"))
        };
        let lost = count("transmitted")? - count("received")?;
        let what = format!("packets of {PINGS} lost by restarts, {name}");
        rows.push(Row::single(&what, lost, "").with_goal(Goal::Most(0.0)));
    }
    Ok(rows)
}

/// Containers created and started through the fleet on a fleet network, and on one of its engine by that.
pub(super) fn starts(fleet: &Fleet<'_>) -> anyhow::Result<Vec<Row>> {
    const LOCAL: &str = "bench-local";
    fleet.engine(1).network(LOCAL, &[])?;
    let sides = [(fleet.engine(1), LOCAL), (&fleet.api, PLAIN)];
    let mut times = [(); 2].map(|()| [Vec::new(), Vec::new()]);
    let all = Instant::now();
    for number in 0..=STARTS {
        if number > STARTS_LEAST && all.elapsed() > STARTS_WITHIN {
            break;
        }
        for ((api, network), [creates, starts]) in sides.iter().zip(&mut times) {
            let began = Instant::now();
            let id = api.create(&format!("started-{network}-{number}"), &sleeper("node1", network, "no"))?;
            let created = began.elapsed();
            api.start(&id)?;
            let started = began.elapsed() - created;
            api.delete(&format!("/containers/{id}?force=1"))?;
            // The first one's caches are cold.
            if number > 0 {
                creates.push(created);
                starts.push(started);
            }
        }
    }
    fleet.engine(1).delete(&format!("/networks/{LOCAL}"))?;
    let [[local_create, local_start], [create, start]] =
        times.map(|kinds| kinds.map(|mut times| percentile(&mut times, 0.5)));
    let start = Row::pair("start on a network, local and fleet, p50", local_start, start, "ms");
    Ok(vec![
        Row::pair("create on a network, local and fleet, p50", local_create, create, "ms"),
        start.with_goal(Goal::MostMore(LATER_MS)),
    ])
}

/// From a container's start on one node until its name is answered for on another.
pub(super) fn names(fleet: &Fleet<'_>) -> anyhow::Result<Row> {
    let asker = fleet.api.run("asker", "node1", PLAIN)?;
    // What the fleet shows is what was asked for; whom it really asks is its engine's to say.
    let inspected = fleet.engine(1).get("/containers/asker/json")?;
    let server = inspected["HostConfig"]["Dns"][0].as_str().context("a container whose names no agent answers")?;
    let server: Ipv4Addr = server.parse()?;
    let mut times = Vec::new();
    for number in 0..NAMES {
        let name = format!("named{number}");
        let id = fleet.api.create(&name, &sleeper("node2", PLAIN, "no"))?;
        let began = Instant::now();
        let resolved = asker.namespace.spawn(move || resolve(server, &name, began));
        fleet.api.start(&id)?;
        times.push(join(resolved)?.as_secs_f64() * 1000.0);
    }
    Ok(Row::median("start until the name resolves on another node", &times, "ms"))
}

/// Asks for a name's address until it is answered with one; how long after the beginning that was.
fn resolve(server: Ipv4Addr, name: &str, began: Instant) -> anyhow::Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(ASK_EVERY))?;
    // RFC 1035 §4.1: recursion desired, one question; its name, type A, class IN.
    let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(name.len())?];
    question.extend(name.bytes());
    question.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 512];
    while began.elapsed() < WITHIN {
        socket.send(&question)?;
        // Without an answer in time it is asked again.
        let length = socket.recv(&mut answer).unwrap_or(0);
        // No error, and a number of answers.
        if length > 12 && answer[3] & 15 == 0 && answer[6..8] != [0, 0] {
            return Ok(began.elapsed());
        }
    }
    anyhow::bail!("{name} does not resolve within {WITHIN:?}")
}
