//! What the fleet says of itself as a whole.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::json;
use wharf_model::{Node, NodeId, Phase, Snapshot, Timestamp};
use wharf_plan::Policy;

use crate::{API_NEWEST, API_OLDEST, Identity, VERSION};

/// The answer to `GET /version`.
pub(crate) fn version() -> Vec<u8> {
    let details = json!({
        "ApiVersion": API_NEWEST.to_string(),
        "MinAPIVersion": API_OLDEST.to_string(),
        "Os": std::env::consts::OS,
        "Arch": arch(),
    });
    let mut version = json!({
        "Platform": { "Name": "Wharf: one Docker for all your hosts" },
        "Components": [{ "Name": "Wharf", "Version": VERSION, "Details": details }],
        "Version": format!("wharf/{VERSION}"),
        "ApiVersion": API_NEWEST.to_string(),
        "MinAPIVersion": API_OLDEST.to_string(),
        // Clients print these two. There is no Go here, and no commit is recorded.
        "GitCommit": "",
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": arch(),
        "KernelVersion": "",
        "BuildTime": "",
    });
    if let Ok(kernel) = rustix::system::uname().release().to_str() {
        version["KernelVersion"] = json!(kernel);
    }
    version.to_string().into_bytes()
}

/// Docker's name of this machine's kind.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The answer to `GET /info` at `now`: sums over the fleet, and a few lines per node in the predecessor's form.
pub(crate) fn info(
    snapshot: &Snapshot,
    identity: &Identity,
    policy: &Policy,
    now: Timestamp,
    written: &NodeLines,
) -> Vec<u8> {
    let nodes = || snapshot.nodes();
    let count = |phase| nodes().map(|node| node.load().in_phase(phase)).sum::<usize>();
    let containers = snapshot.container_count();
    let (running, paused) = (count(Phase::Running), count(Phase::Paused));
    let mut cpus = 0;
    let mut memory = 0;
    for engine in nodes().filter(|node| node.is_healthy()).filter_map(|node| node.engine.as_ref()) {
        cpus += engine.total.cpus.as_nanos() / 1_000_000_000;
        memory += engine.total.memory.0;
    }
    let silent = nodes()
        .filter_map(|node| node.error.as_ref().map(|error| format!("WARNING: {} does not answer: {error}", node.name)));
    let uname = rustix::system::uname();
    let mut info = json!({
        "ID": identity.id,
        "Name": identity.hostname,
        "ServerVersion": format!("wharf/{VERSION}"),
        "Containers": containers,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers - running - paused,
        "Images": snapshot.image_count(),
        "Driver": "",
        "DriverStatus": [],
        "SystemStatus": null,
        "NCPU": cpus,
        "MemTotal": memory,
        "OperatingSystem": "Wharf",
        "OSType": std::env::consts::OS,
        "OSVersion": "",
        "Architecture": std::env::consts::ARCH,
        "KernelVersion": uname.release().to_string_lossy(),
        "SystemTime": jiff::Timestamp::from_nanosecond(i128::from(now.as_nanos())).unwrap_or_default().to_string(),
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null", "overlay"], "Authorization": null, "Log": [] },
        "Warnings": silent.collect::<Vec<_>>(),
    });
    if let (Some(info), serde_json::Value::Object(usual)) = (info.as_object_mut(), usual()) {
        info.extend(usual);
    }
    // Put in as text: it is most of the answer.
    let status = format!("\"SystemStatus\":{}", status(snapshot, policy, written));
    info.to_string().replacen("\"SystemStatus\":null", &status, 1).into_bytes()
}

/// What clients expect of any engine, and what says nothing of a fleet.
fn usual() -> serde_json::Value {
    json!({
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": true,
        "BridgeNfIptables": true,
        "BridgeNfIp6tables": true,
        "OomKillDisable": true,
        "LoggingDriver": "",
        "CgroupDriver": "",
        "Debug": false,
        "ExperimentalBuild": false,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": { "IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": [] },
        "Labels": [],
        "Runtimes": {},
        "DefaultRuntime": "",
        "SecurityOptions": [],
        "LiveRestoreEnabled": false,
        "Isolation": "",
        "InitBinary": "",
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "DockerRootDir": "",
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null },
    })
}

/// The lines of each node as they were last written, in the order of the nodes' names: a node that is still the same is not
/// written again. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeLines(Arc<Mutex<Vec<Written>>>);

/// A node's lines, and as what it was written.
#[derive(Debug)]
struct Written {
    id: NodeId,
    name: Arc<str>,
    /// Weak: what was written of it must not keep all that it had.
    node: Weak<Node>,
    lines: Box<str>,
}

impl NodeLines {
    /// Adds the lines of all nodes.
    fn add_to(&self, lines: &mut Lines, snapshot: &Snapshot) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same_nodes = written.len() == snapshot.node_count()
            && written.iter().all(|known| snapshot.node(known.id).is_some_and(|node| node.name == known.name));
        if !same_nodes {
            let unwritten = |node: &Arc<Node>| Written {
                id: node.id,
                name: Arc::clone(&node.name),
                node: Weak::new(),
                lines: "".into(),
            };
            *written = snapshot.nodes().map(unwritten).collect();
            written.sort_by_cached_key(|known| natural(&known.name));
        }
        for known in &mut *written {
            let Some(node) = snapshot.node(known.id) else { continue };
            if known.node.as_ptr() != Arc::as_ptr(node) {
                let mut of_it = Lines { json: String::new() };
                of_node(&mut of_it, node);
                (known.node, known.lines) = (Arc::downgrade(node), of_it.json.into());
            }
            lines.json.push(',');
            lines.json.push_str(&known.lines);
        }
    }
}

/// Names and values in the order in which clients print them, as JSON: ten for every node, which is written and not built.
fn status(snapshot: &Snapshot, policy: &Policy, written: &NodeLines) -> String {
    let filters = wharf_plan::filter_names().filter(|name| !policy.without.contains(name));
    let filters = filters.collect::<Vec<_>>().join(", ");
    let mut lines = Lines { json: String::with_capacity(snapshot.node_count() * 700 + 256) };
    lines.add("Role", "primary");
    lines.add("Strategy", policy.strategy.name());
    lines.add("Filters", &filters);
    lines.add("Nodes", snapshot.node_count());
    written.add_to(&mut lines, snapshot);
    format!("[{}]", lines.json)
}

/// Pairs of texts as JSON.
struct Lines {
    json: String,
}

impl Lines {
    fn add(&mut self, key: &str, value: impl fmt::Display) {
        self.json.push_str(if self.json.is_empty() { "[" } else { ",[" });
        for (text, end) in [(&key as &dyn fmt::Display, ","), (&value, "]")] {
            self.json.push('"');
            // A String takes whatever is written.
            write!(Escaped(&mut self.json), "{text}").ok();
            self.json.push('"');
            self.json.push_str(end);
        }
    }
}

/// Writes text into a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.0.push_str(text);
            return Ok(());
        }
        let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?;
        self.0.push_str(&quoted[1..quoted.len() - 1]);
        Ok(())
    }
}

/// A name with its numbers as numbers: `node2` comes before `node10`.
pub(super) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(text);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        parts.push((head.to_owned(), number.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

fn of_node(lines: &mut Lines, node: &Node) {
    let known = node.engine.as_deref();
    let address = node.endpoint.address();
    let name = if known.is_some() { &node.name } else { "(unknown)" };
    lines.add(&format!(" {name}"), &address);
    lines.add("  └ ID", known.map_or_else(String::new, |engine| format!("{}|{address}", engine.id)));
    lines.add("  └ Status", node.health.name());
    let containers = node.containers.len();
    if node.is_healthy() {
        let (running, paused) = (node.load().in_phase(Phase::Running), node.load().in_phase(Phase::Paused));
        let stopped = containers - running - paused;
        let told = format_args!("{containers} ({running} Running, {paused} Paused, {stopped} Stopped)");
        lines.add("  └ Containers", told);
    } else {
        lines.add("  └ Containers", containers);
    }
    if let Some(engine) = known {
        let reserved = node.load().reserved;
        lines.add("  └ Reserved CPUs", format_args!("{} / {}", reserved.cpus, engine.total.cpus));
        lines.add("  └ Reserved Memory", format_args!("{} / {}", reserved.memory, engine.total.memory));
        let labels: Vec<_> = node.all_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.add("  └ Labels", labels.join(", "));
    }
    if let Some(error) = &node.error {
        lines.add("  └ Error", error);
    }
    lines.add("  └ UpdatedAt", jiff::Timestamp::from_second(node.updated.as_secs()).unwrap_or_default());
    lines.add("  └ ServerVersion", known.map_or("", |engine| &engine.version));
}
