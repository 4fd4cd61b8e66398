//! An engine's state as JSON, written as text where there is much of it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    Engine, State,
    engine::{Container, IMAGE, Inside},
    networks::Joined,
};

pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        }
    }
    text
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn time(nanos: i64) -> String {
    match nanos {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        _ => jiff::Timestamp::from_nanosecond(nanos.into()).map_or_else(|_| String::new(), |time| time.to_string()),
    }
}

/// `GET /version`
pub(crate) fn version(engine: &Engine) -> Value {
    let [oldest, newest] = engine.shape.api.map(|(major, minor)| format!("{major}.{minor}"));
    json!({
        "Platform": { "Name": "Simulated" }, "Version": "20.10.24+sim", "ApiVersion": newest, "MinAPIVersion": oldest,
        "Os": "linux", "Arch": "amd64", "KernelVersion": "6.1.0", "GoVersion": "go1.19", "GitCommit": "", "BuildTime": "",
    })
}

/// `GET /info`
pub(crate) fn info(engine: &Engine) -> Value {
    let inside = engine.inside();
    let count = |state| inside.containers.values().filter(|container| container.state == state).count();
    json!({
        "ID": format!("SIM:{}", engine.number), "Name": engine.name, "Driver": "overlay2",
        "Containers": inside.containers.len(), "ContainersRunning": count(State::Running),
        "ContainersPaused": count(State::Paused), "ContainersStopped": count(State::Exited) + count(State::Created),
        "Images": inside.images.len(), "KernelVersion": "6.1.0", "OperatingSystem": "Simulated Linux", "OSType": "linux",
        "Architecture": "x86_64", "NCPU": engine.shape.cpus, "MemTotal": engine.shape.memory,
        "Labels": engine.shape.labels, "ServerVersion": "20.10.24+sim", "Swarm": { "LocalNodeState": "inactive" },
    })
}

/// An entry of `GET /containers/json`.
pub(crate) fn entry(text: &mut String, id: &[u8; 32], container: &Container, inside: &Inside, now: i64) {
    let config = container.config.as_deref();
    let image_id = inside.image(container.image()).map_or("", String::as_str);
    let up = (now - container.started).max(0) / 60_000_000_000;
    let ago = (now - container.finished).max(0) / 60_000_000_000;
    let status = match container.state {
        State::Created => "Created".to_owned(),
        State::Running => format!("Up {up} minutes"),
        State::Paused => format!("Up {up} minutes (Paused)"),
        State::Exited => format!("Exited ({}) {ago} minutes ago", container.exit_code),
    };
    let labels = config.map_or_else(|| original_labels(container), |config| config["Labels"].to_string());
    let labels = if labels == "null" { "{}".to_owned() } else { labels };
    let mode = network_mode(config);
    let ports = ports(config).into_iter().map(|(private, public)| match public {
        Some(public) if container.state == State::Running => {
            json!({ "IP": "0.0.0.0", "PrivatePort": private, "PublicPort": public, "Type": "tcp" })
        }
        _ => json!({ "PrivatePort": private, "Type": "tcp" }),
    });
    // The text is written, not built: lists of thousands of engines are made of it. A String takes whatever is written.
    write!(
        text,
        "{{\"Id\":\"{}\",\"Names\":[\"/{}\"],\"Image\":\"{}\",\"ImageID\":\"sha256:{image_id}\",\"Command\":\"true\",\
         \"Created\":{},\"Ports\":{},\"Labels\":{labels},\"State\":\"{}\",\"Status\":\"{status}\",\
         \"HostConfig\":{{\"NetworkMode\":\"{mode}\"}},\"NetworkSettings\":{{\"Networks\":{}}},\"Mounts\":[]}}",
        hex(id),
        container.name,
        container.image(),
        container.created / 1_000_000_000,
        Value::Array(ports.collect()),
        container.state.name(),
        endpoints(container, inside, Told::Listed),
    )
    .ok();
}

fn original_labels(container: &Container) -> String {
    let (engine, index) = container.name[1..].split_once('-').unwrap_or_default();
    format!("{{\"app\":\"app-{index}\",\"rack\":\"r{}\"}}", engine.len())
}

fn network_mode(config: Option<&Value>) -> &str {
    config.and_then(|config| config["HostConfig"]["NetworkMode"].as_str()).unwrap_or("default")
}

/// Published ports: the container's, and the host's where one was asked for.
fn ports(config: Option<&Value>) -> Vec<(u16, Option<u16>)> {
    let bindings = config.and_then(|config| config["HostConfig"]["PortBindings"].as_object());
    bindings
        .into_iter()
        .flatten()
        .filter_map(|(port, bindings)| {
            let private = port.split('/').next()?.parse().ok()?;
            Some((private, bindings[0]["HostPort"].as_str().and_then(|port| port.parse().ok())))
        })
        .collect()
}

/// `GET /containers/{id}/json`
pub(crate) fn inspect(id: &[u8; 32], container: &Container, inside: &Inside) -> Value {
    let config = container.config.as_deref();
    let up = matches!(container.state, State::Running | State::Paused);
    let field = |name: &str, or: Value| config.map_or(Value::Null, |config| config[name].clone()).or(or);
    let labels = match config {
        Some(_) => field("Labels", json!({})),
        None => serde_json::from_str(&original_labels(container)).unwrap_or_default(),
    };
    let host = field("HostConfig", json!({ "NetworkMode": "default" }));
    let shown: serde_json::Map<_, _> = if up {
        let bound = |public| json!([{ "HostIp": "0.0.0.0", "HostPort": format!("{public}") }]);
        let ports = ports(config).into_iter();
        ports.map(|(private, public)| (format!("{private}/tcp"), public.map_or(Value::Null, bound))).collect()
    } else {
        serde_json::Map::new()
    };
    json!({
        "Id": hex(id), "Created": time(container.created), "Path": "true", "Args": [], "Name": format!("/{}", container.name),
        "State": {
            "Status": container.state.name(), "Running": up, "Paused": container.state == State::Paused,
            "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": if up { 1 } else { 0 },
            "ExitCode": container.exit_code, "Error": "",
            "StartedAt": time(container.started), "FinishedAt": time(container.finished),
        },
        "Image": format!("sha256:{}", inside.image(container.image()).map_or("", String::as_str)),
        "RestartCount": 0, "Driver": "overlay2", "Platform": "linux", "Mounts": [],
        "Config": {
            "Hostname": &hex(id)[..12], "Image": container.image(), "Labels": labels, "Env": field("Env", json!([])),
            "Cmd": field("Cmd", json!(["true"])), "ExposedPorts": field("ExposedPorts", json!({})),
        },
        "HostConfig": host,
        "NetworkSettings": { "Ports": shown, "Networks": endpoints(container, inside, Told::Inspected) },
    })
}

pub(crate) trait Or {
    fn or(self, other: Value) -> Value;
}

impl Or for Value {
    fn or(self, other: Value) -> Value {
        if self.is_null() { other } else { self }
    }
}

/// An entry of `GET /images/json`; all names of one id.
pub(crate) fn image(id: &str, names: &[&String]) -> Value {
    json!({
        "Id": format!("sha256:{id}"), "ParentId": "", "RepoTags": names, "RepoDigests": [], "Created": 1_690_000_000,
        "Size": 4_000_000, "VirtualSize": 4_000_000, "SharedSize": -1, "Labels": null, "Containers": -1,
    })
}

/// `GET /images/{name}/json`
pub(crate) fn image_inspect(id: &str, names: &[&String]) -> Value {
    json!({
        "Id": format!("sha256:{id}"), "RepoTags": names, "RepoDigests": [], "Created": "2023-07-22T04:26:40Z",
        "Architecture": "amd64", "Os": "linux", "Size": 4_000_000, "VirtualSize": 4_000_000,
        "Config": { "Cmd": ["sh"], "Labels": null }, "RootFS": { "Type": "layers", "Layers": [] },
        "Metadata": { "LastTagTime": if names.iter().any(|name| *name == IMAGE) { "2023-08-01T00:00:00Z" } else { "2023-09-01T00:00:00Z" } },
    })
}

/// How much is told of a container's endpoints: lists leave out what only the container's own inspection tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Listed,
    Inspected,
}

fn endpoints(container: &Container, inside: &Inside, told: Told) -> Value {
    let endpoint = |(name, joined): (&String, &Joined)| {
        let network = inside.networks.get(name);
        let address = joined.address.map(|address| address.to_string()).unwrap_or_default();
        let settings = |key: &str| if told == Told::Inspected { joined.settings[key].clone() } else { Value::Null };
        let up = joined.address.is_some();
        // A container that has never run does not know the network's id yet.
        let known = network.filter(|_| container.started > 0);
        let endpoint = json!({
            "IPAMConfig": joined.settings["IPAMConfig"], "Links": settings("Links"), "Aliases": settings("Aliases"),
            "DriverOpts": settings("DriverOpts"), "NetworkID": known.map_or("", |network| network["Id"].as_str().unwrap_or("")),
            "EndpointID": if up { joined.id.clone() } else { String::new() }, "Gateway": "", "IPAddress": address,
            "IPPrefixLen": if up { 16 } else { 0 }, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "MacAddress": if up { "02:42:00:00:00:01" } else { "" },
        });
        (name.clone(), endpoint)
    };
    Value::Object(container.joined.iter().map(endpoint).collect())
}

/// A volume.
pub(crate) fn volume(name: &str, body: &Value, now: i64) -> Value {
    json!({
        "CreatedAt": time(now), "Driver": "local", "Labels": body["Labels"], "Name": name,
        "Mountpoint": format!("/var/lib/docker/volumes/{name}/_data"), "Options": null, "Scope": "local",
    })
}
