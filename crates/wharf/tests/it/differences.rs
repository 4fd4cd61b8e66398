//! The same calls on an engine and on the fleet: where status or text differ, `docs/differences.md` says so.

use std::fmt::Write;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::fleet::{Container, Fleet, request};

/// The page that lists the differences.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");

/// What the page says before the list.
const PREAMBLE: &str = "# Where the fleet answers differently from an engine\n\n\
    Clients can rely on Docker's status codes and texts, but for those below: the calls that a test makes to an engine \
    (20.10) and to a fleet that has it, and that are not answered alike. Only status and error text are compared. (Made by \
    that test: `UPDATE_DOCS=1 cargo test -p wharf --test it differences` writes this page.)\n\n";

/// Method, path below the version, body. `RUNS`, `STOPPED`, `NET` and `VOL` exist on the engine, `NONE` does not.
const CALLS: &[(&str, &str, &str)] = &[
    // Containers.
    ("GET", "/containers/json?limit=x", ""),
    ("GET", "/containers/json?all=maybe", ""),
    ("GET", "/containers/json?filters=no", ""),
    ("GET", "/containers/json?filters={\"none\":[\"x\"]}", ""),
    ("GET", "/containers/json?filters={\"status\":[\"none\"]}", ""),
    ("GET", "/containers/json?filters={\"health\":[\"none\"]}", ""),
    ("GET", "/containers/json?filters={\"exited\":[\"x\"]}", ""),
    ("GET", "/containers/json?filters={\"before\":[\"NONE\"]}", ""),
    ("GET", "/containers/json?filters={\"is-task\":[\"x\"]}", ""),
    ("GET", "/containers/json?filters={\"publish\":[\"x\"]}", ""),
    ("GET", "/containers/NONE/json", ""),
    ("GET", "/containers/RUNS/json?size=1", ""),
    ("GET", "/containers/NONE/top", ""),
    ("GET", "/containers/STOPPED/top", ""),
    ("GET", "/containers/RUNS/top?ps_args=--none", ""),
    ("GET", "/containers/NONE/logs?stdout=1", ""),
    ("GET", "/containers/RUNS/logs", ""),
    ("GET", "/containers/RUNS/logs?stdout=1&since=x", ""),
    ("GET", "/containers/NONE/changes", ""),
    ("GET", "/containers/NONE/stats", ""),
    ("GET", "/containers/NONE/export", ""),
    ("POST", "/containers/NONE/resize?h=1&w=1", ""),
    ("POST", "/containers/RUNS/resize?h=x&w=1", ""),
    ("POST", "/containers/STOPPED/resize?h=1&w=1", ""),
    ("POST", "/containers/NONE/start", ""),
    ("POST", "/containers/RUNS/start", ""),
    ("POST", "/containers/STOPPED/start?checkpoint=x", ""),
    ("POST", "/containers/NONE/stop", ""),
    ("POST", "/containers/STOPPED/stop", ""),
    ("POST", "/containers/NONE/restart", ""),
    ("POST", "/containers/RUNS/restart?t=x", ""),
    ("POST", "/containers/NONE/kill", ""),
    ("POST", "/containers/STOPPED/kill", ""),
    ("POST", "/containers/RUNS/kill?signal=NONE", ""),
    ("POST", "/containers/NONE/update", "{}"),
    ("POST", "/containers/RUNS/update", "{\"Memory\":1}"),
    ("POST", "/containers/RUNS/update", "{"),
    ("POST", "/containers/NONE/rename?name=other", ""),
    ("POST", "/containers/RUNS/rename", ""),
    ("POST", "/containers/RUNS/rename?name=a/b", ""),
    ("POST", "/containers/RUNS/rename?name=STOPPED", ""),
    ("POST", "/containers/RUNS/rename?name=RUNS", ""),
    ("POST", "/containers/NONE/pause", ""),
    ("POST", "/containers/STOPPED/pause", ""),
    ("POST", "/containers/RUNS/unpause", ""),
    ("POST", "/containers/NONE/attach?stream=1", ""),
    ("GET", "/containers/NONE/attach/ws", ""),
    ("POST", "/containers/NONE/wait", ""),
    ("DELETE", "/containers/NONE", ""),
    ("DELETE", "/containers/RUNS", ""),
    ("DELETE", "/containers/RUNS?link=1", ""),
    ("HEAD", "/containers/NONE/archive?path=/", ""),
    ("GET", "/containers/NONE/archive?path=/", ""),
    ("GET", "/containers/RUNS/archive", ""),
    ("GET", "/containers/RUNS/archive?path=/none", ""),
    ("PUT", "/containers/RUNS/archive?path=/none", ""),
    ("POST", "/containers/prune?filters=no", ""),
    ("POST", "/containers/prune?filters={\"none\":[\"x\"]}", ""),
    ("POST", "/containers/prune?filters={\"until\":[\"x\"]}", ""),
    ("POST", "/containers/NONE/exec", "{\"Cmd\":[\"true\"]}"),
    ("POST", "/containers/STOPPED/exec", "{\"Cmd\":[\"true\"]}"),
    ("POST", "/containers/RUNS/exec", "{}"),
    ("POST", "/containers/RUNS/exec", "no"),
    ("GET", "/exec/NONE/json", ""),
    ("POST", "/exec/NONE/start", "{\"Detach\":true}"),
    ("POST", "/exec/NONE/resize?h=1&w=1", ""),
    // Creating.
    ("POST", "/containers/create", ""),
    ("POST", "/containers/create", "{"),
    ("POST", "/containers/create", "[]"),
    ("POST", "/containers/create", "{}"),
    ("POST", "/containers/create", "{\"Image\":\"NONE\"}"),
    ("POST", "/containers/create", "{\"Image\":\"A B\"}"),
    ("POST", "/containers/create", "{\"Image\":1}"),
    ("POST", "/containers/create?name=a/b", "{\"Image\":\"busybox\"}"),
    ("POST", "/containers/create?name=x", "{\"Image\":\"busybox\"}"),
    ("POST", "/containers/create?name=RUNS", "{\"Image\":\"busybox\"}"),
    ("POST", "/containers/create?platform=none/none/none/none", "{\"Image\":\"busybox\"}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":1}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":-1}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"NanoCpus\":900000000000}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"container:NONE\"}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"PidMode\":\"container:NONE\"}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"PidMode\":\"none\"}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"IpcMode\":\"container:NONE\"}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"VolumesFrom\":[\"NONE\"]}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"VolumesFrom\":[\"RUNS:none\"]}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Links\":[\"NONE:x\"]}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"a:b\"]}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\":\"]}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"x\":[]}}}"),
    (
        "POST",
        "/containers/create",
        "{\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"x\"}]}}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"70000\"}]}}}",
    ),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"none\"}}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"Env\":[\"=x\"]}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"ExposedPorts\":{\"x/y\":{}}}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"Hostname\":\"a b\"}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"StopSignal\":\"NONE\"}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\",\"Labels\":{\"a\":1}}"),
    ("POST", "/commit?container=NONE", "{}"),
    ("POST", "/commit?container=RUNS&repo=A", "{}"),
    ("POST", "/commit", "{}"),
    // Images.
    ("GET", "/images/json?filters={\"none\":[\"x\"]}", ""),
    ("GET", "/images/json?filters={\"dangling\":[\"x\"]}", ""),
    ("GET", "/images/json?filters={\"before\":[\"NONE\"]}", ""),
    ("GET", "/images/NONE/json", ""),
    ("GET", "/images/busybox@sha256:1/json", ""),
    ("GET", "/images/NONE/history", ""),
    ("GET", "/images/NONE/get", ""),
    ("GET", "/images/get?names=NONE", ""),
    ("POST", "/images/NONE/tag?repo=x", ""),
    ("POST", "/images/busybox/tag?repo=A", ""),
    ("POST", "/images/busybox/tag", ""),
    ("POST", "/images/NONE/push", ""),
    ("DELETE", "/images/NONE", ""),
    ("POST", "/images/create", ""),
    ("POST", "/images/create?fromSrc=none:", ""),
    ("POST", "/images/create?fromImage=A", ""),
    ("POST", "/images/load", "no"),
    ("POST", "/images/prune?filters={\"none\":[\"x\"]}", ""),
    ("GET", "/images/search?term=x&limit=x", ""),
    ("POST", "/build", "no"),
    ("POST", "/build?remote=none:", ""),
    ("POST", "/build?t=A", "no"),
    ("POST", "/build?version=7", ""),
    ("POST", "/build/cancel", ""),
    ("POST", "/build/prune?filters={\"none\":[\"x\"]}", ""),
    // Volumes.
    ("GET", "/volumes?filters={\"none\":[\"x\"]}", ""),
    ("GET", "/volumes?filters={\"dangling\":[\"x\"]}", ""),
    ("GET", "/volumes/NONE", ""),
    ("POST", "/volumes/create", "{"),
    ("POST", "/volumes/create", "{\"Name\":\"a b\"}"),
    ("POST", "/volumes/create", "{\"Name\":\"x\",\"DriverOpts\":{\"none\":\"x\"}}"),
    ("DELETE", "/volumes/NONE", ""),
    ("DELETE", "/volumes/NONE?force=1", ""),
    ("DELETE", "/volumes/VOL", ""),
    ("POST", "/volumes/prune?filters={\"none\":[\"x\"]}", ""),
    // Networks.
    ("GET", "/networks?filters={\"none\":[\"x\"]}", ""),
    ("GET", "/networks?filters={\"type\":[\"x\"]}", ""),
    ("GET", "/networks/NONE", ""),
    ("GET", "/networks/NET?scope=none", ""),
    ("POST", "/networks/create", "{"),
    ("POST", "/networks/create", "{}"),
    ("POST", "/networks/create", "{\"Name\":\"host\"}"),
    ("POST", "/networks/NONE/connect", "{\"Container\":\"RUNS\"}"),
    ("POST", "/networks/NET/connect", "{\"Container\":\"NONE\"}"),
    ("POST", "/networks/NET/connect", "{\"Container\":\"RUNS\"}"),
    ("POST", "/networks/NET/connect", "{"),
    ("POST", "/networks/NONE/disconnect", "{\"Container\":\"RUNS\"}"),
    ("POST", "/networks/NET/disconnect", "{\"Container\":\"NONE\"}"),
    ("POST", "/networks/NET/disconnect", "{\"Container\":\"STOPPED\"}"),
    ("DELETE", "/networks/NONE", ""),
    ("DELETE", "/networks/NET", ""),
    ("DELETE", "/networks/bridge", ""),
    ("POST", "/networks/prune?filters={\"none\":[\"x\"]}", ""),
    // The rest.
    ("GET", "/events?since=x", ""),
    ("GET", "/events?until=0&filters={\"none\":[\"x\"]}", ""),
    ("GET", "/events?since=2&until=1", ""),
    ("GET", "/system/df?none=1", ""),
    ("GET", "/distribution/A/json", ""),
    ("POST", "/auth", "{"),
    ("GET", "/plugins?filters={\"none\":[\"x\"]}", ""),
    ("GET", "/plugins/NONE/json", ""),
    ("DELETE", "/plugins/NONE", ""),
    ("POST", "/plugins/NONE/enable?timeout=1", ""),
    ("POST", "/plugins/NONE/disable", ""),
    ("GET", "/swarm", ""),
    ("POST", "/swarm/join", "{}"),
    ("POST", "/swarm/leave", ""),
    ("GET", "/services", ""),
    ("GET", "/nodes", ""),
    ("GET", "/tasks", ""),
    ("GET", "/secrets", ""),
    ("GET", "/configs", ""),
    ("GET", "/none", ""),
    ("PATCH", "/info", ""),
    ("OPTIONS", "/info", ""),
];

pub(crate) fn answers_differ_from_an_engines_only_as_documented(fleet: &Fleet) -> anyhow::Result<()> {
    let here = &["-e", "constraint:node==node1", "-v", "cmp-volume:/cmp"][..];
    fleet.docker(&["network", "create", "node1/cmp-net"])?;
    let _network = Removed(fleet, &["network", "rm", "node1/cmp-net"]);
    let _volume = Removed(fleet, &["volume", "rm", "cmp-volume"]);
    let _runs = fleet.sleeper("cmp-runs", &[here, &["--net", "cmp-net"]].concat())?;
    let _stopped = Container::of(fleet, "cmp-stopped");
    fleet.docker(&[&["create", "--name", "cmp-stopped"], here, &["busybox", "true"]].concat())?;

    let mut page = String::from(PREAMBLE);
    page.push_str("| call | an engine | the fleet |\n|---|---|---|\n");
    let mut alike = 0;
    for (method, path, body) in CALLS {
        let engine = ask(&fleet.node(1), method, path, body).with_context(|| format!("engine: {method} {path}"))?;
        let ours = ask(&fleet.host(), method, path, body).with_context(|| format!("fleet: {method} {path}"))?;
        // What the one created must not be found by the next.
        for (host, answer) in [(fleet.node(1), &engine), (fleet.host(), &ours)] {
            if let (201, Some(id)) = (answer.0, answer.2["Id"].as_str())
                && path.starts_with("/containers/create")
            {
                request(&host, "DELETE", &format!("/v1.41/containers/{id}"), b"")?;
            }
        }
        ensure!(ours.0 < 500 || ours.0 == engine.0 || ours.0 == 503, "{method} {path}: {} {}", ours.0, ours.1);
        if (engine.0, &engine.1) == (ours.0, &ours.1) {
            alike += 1;
            continue;
        }
        let body = if body.is_empty() { String::new() } else { format!(" `{body}`") };
        let cell = |(status, text, _): &(u16, String, Value)| format!("{status} {}", text.replace('|', "\\|"));
        writeln!(page, "| `{method} {path}`{body} | {} | {} |", cell(&engine), cell(&ours))?;
    }
    write!(page, "\nThe other {alike} of {} calls are answered alike.\n", CALLS.len())?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &page)?;
    }
    let documented = std::fs::read_to_string(PAGE)?;
    let new: Vec<_> = page.lines().filter(|line| !documented.contains(line)).collect();
    ensure!(
        documented == page,
        "docs/differences.md is out of date (UPDATE_DOCS=1 cargo test -p wharf --test it differences): {new:#?}"
    );
    Ok(())
}

/// Status, error text and the JSON of an answer; what is different each time is cut out of the text.
fn ask(host: &str, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String, Value)> {
    let named = |text: &str| {
        let names = [("RUNS", "cmp-runs"), ("STOPPED", "cmp-stopped"), ("NET", "cmp-net"), ("VOL", "cmp-volume")];
        names.iter().fold(text.replace("NONE", "cmp-none"), |text, (short, name)| text.replace(short, name))
    };
    let path = named(path).replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace(' ', "%20");
    let path = path.replace('[', "%5B").replace(']', "%5D");
    let (status, answer) = request(host, method, &format!("/v1.41{path}"), named(body).as_bytes())?;
    let json: Value = serde_json::from_str(&answer).unwrap_or_default();
    if status < 400 {
        return Ok((status, String::new(), json));
    }
    let text = json["message"].as_str().map_or(answer, str::to_owned);
    // Ids are different each time.
    let words = text.trim().replace('\n', " ");
    let words = words.split(' ').map(|word| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = core.len() >= 12 && core.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { word.replace(core, "ID") } else { word.to_owned() }
    });
    Ok((status, words.collect::<Vec<_>>().join(" "), json))
}

/// Runs `docker` with these arguments when it is dropped.
struct Removed<'a>(&'a Fleet, &'a [&'a str]);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        self.0.docker(self.1).ok();
    }
}
