//! Bringing agents to nodes through their engines: an image made of Wharf's own program, run as a container.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{HeaderValue, Method, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, time::Instant};
use wharf_engine::{Body, BodyError, collect, full};
use wharf_model::{AGENT_LABEL, AGENT_NAME, Class, Endpoint, Node, NodeId};

use super::Inner;
use crate::{API_NEWEST, Error, fleet::Link, front::of_engine, lines};

/// How often is looked for nodes without an agent.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Agents that are brought at a time: each is the whole program.
const AT_ONCE: usize = 4;

/// Between two attempts on one node: first and longest.
const RETRY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(120)];

/// An agent that runs connects by itself; after so long it is taken for one that cannot.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// An engine that unpacks the program has a slow disk at worst.
const CHANGE_WITHIN: Duration = Duration::from_secs(120);

/// `{"reference":["wharf-agent"]}`: images of that name, whatever their tag.
const IMAGES_OF_AGENTS: &str = "%7B%22reference%22%3A%5B%22wharf-agent%22%5D%7D";

/// What the program is read in.
const CHUNK: usize = 256 << 10;

/// What an engine answers to an import: a line.
const ANSWER_LIMIT: usize = 1 << 20;

/// The host's files as the agent sees them: it runs the host's own iptables, with its lock, and reads its resolvers.
const HOST_ROOT: &str = "/host";

/// Where they are mounted from: without what is mounted below them, which would be kept busy when the host unmounts it. Some
/// hosts have `/usr` apart.
const HOST_MOUNTS: [&str; 3] = ["/", "/usr", "/run"];

/// Tar's unit.
const BLOCK: u64 = 512;

/// Looks for nodes without an agent, and brings them one, until it is dropped.
pub(super) async fn push(inner: Arc<Inner>) {
    let tag = match tag(&inner.settings.program).await {
        Ok(tag) => tag,
        Err(error) => {
            let program = inner.settings.program.display();
            tracing::error!("agents cannot be brought to nodes: {program} cannot be read: {error}");
            return;
        }
    };
    let mut tries: BTreeMap<NodeId, (Instant, Duration)> = BTreeMap::new();
    let mut pause = LOOK_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let snapshot = inner.fleet.snapshot();
        let now = Instant::now();
        // One that people started by hand is theirs to replace: it does not say what it was made of.
        let outdated = |node: &Node| {
            let made_of = node.agent.as_ref().and_then(|agent| agent.version.split_once('+'));
            made_of.is_some_and(|(_, made_of)| *made_of != *tag)
        };
        let connected = |node: &Node| inner.progress.borrow().agents.contains_key(&node.id) && !outdated(node);
        tries.retain(|id, _| snapshot.node(*id).is_some_and(|node| !connected(node)));
        let due = |node: &&Arc<Node>| {
            node.is_healthy() && !connected(node) && tries.get(&node.id).is_none_or(|(next, _)| *next <= now)
        };
        let nodes: Vec<_> = snapshot.nodes().filter(due).take(AT_ONCE).cloned().collect();
        // There may be more of them.
        pause = if nodes.len() < AT_ONCE { LOOK_EVERY } else { Duration::ZERO };
        let first = |node: &Node| !tries.contains_key(&node.id);
        let brought = join_all(nodes.iter().map(|node| bring(&inner, node, &tag, first(node)))).await;
        for (node, brought) in nodes.iter().zip(brought) {
            let pause = tries.get(&node.id).map_or(RETRY[0], |(_, pause)| (*pause * 2).min(RETRY[1]));
            let pause = match brought {
                Ok(Brought::New | Brought::Running) => CONNECT_WITHIN,
                Err(error) => {
                    tracing::warn!("{} has no agent, so that it joins no fleet networks: {error}", node.name);
                    pause
                }
            };
            tries.insert(node.id, (Instant::now() + pause, pause));
        }
    }
}

enum Brought {
    /// It was made and started.
    New,
    /// It was there, and may be about to connect.
    Running,
}

/// `first` where it has not been looked for an agent before: one that runs had no time to connect yet.
async fn bring(inner: &Inner, node: &Node, tag: &str, first: bool) -> Result<Brought, Error> {
    let away = || Error::unavailable(format!("{} does not answer", node.name));
    let link = inner.fleet.link(node.id).ok_or_else(away)?;
    let refused = |error: wharf_engine::Error| of_engine(&error, node);
    let found = call(&link, Method::GET, &format!("/containers/{AGENT_NAME}/json"), None).await;
    let found = match found {
        Err(error) if error.class() == Class::NotFound => None,
        found => Some(serde_json::from_slice::<Value>(&found.map_err(refused)?).unwrap_or_default()),
    };
    let image = format!("{AGENT_NAME}:{tag}");
    if let Some(found) = found {
        match found["Config"]["Labels"][AGENT_LABEL].as_str() {
            Some(fleet) if fleet == inner.fleet_id => {}
            Some(_) => {
                return Err(Error::conflict(format!(
                    "{} has an agent of another fleet: stop the other manager, and remove the container {AGENT_NAME} there",
                    node.name
                )));
            }
            None => {
                return Err(Error::conflict(format!(
                    "a container on {} is called {AGENT_NAME} and is no agent: rename it",
                    node.name
                )));
            }
        }
        let started: Option<jiff::Timestamp> = found["State"]["StartedAt"].as_str().and_then(|time| time.parse().ok());
        let since = started.map(|started| jiff::Timestamp::now().duration_since(started).unsigned_abs());
        let fresh = since.is_some_and(|since| since < CONNECT_WITHIN);
        if found["State"]["Running"] == true && found["Config"]["Image"] == *image && (first || fresh) {
            return Ok(Brought::Running);
        }
        let path = format!("/containers/{AGENT_NAME}?force=1");
        call(&link, Method::DELETE, &path, None).await.map_err(refused)?;
    }
    bring_image(&link, node, &inner.settings.program, tag).await?;
    let manager = address(inner, node).await?;
    let body = container(&image, &inner.fleet_id, manager).to_string();
    let path = format!("/containers/create?name={AGENT_NAME}");
    call(&link, Method::POST, &path, Some(body)).await.map_err(refused)?;
    // The token goes by a file that only root reads: whoever lists processes or inspects containers does not see it.
    let token = inner.tokens.give(node.id)?.to_string();
    let mut archive = begin("token", token.len() as u64, 0o600);
    archive.extend_from_slice(token.as_bytes());
    archive.extend(end(token.len() as u64));
    let path = link.path(API_NEWEST, &format!("/containers/{AGENT_NAME}/archive?path=/data"));
    upload(&link, node, Method::PUT, &path, full(archive)).await?;
    call(&link, Method::POST, &format!("/containers/{AGENT_NAME}/start"), None).await.map_err(refused)?;
    tracing::info!("{} has got its agent", node.name);
    if let Err(error) = forget_others(&link, &image).await {
        tracing::warn!("images of former agents stay on {}: {}", node.name, of_engine(&error, node));
    }
    Ok(Brought::New)
}

/// Removes the images of other builds: each is the whole program.
async fn forget_others(link: &Link, image: &str) -> Result<(), wharf_engine::Error> {
    let listed = call(link, Method::GET, &format!("/images/json?filters={IMAGES_OF_AGENTS}"), None).await?;
    let listed: Vec<Value> = serde_json::from_slice(&listed).unwrap_or_default();
    let tags = listed.iter().flat_map(|listed| listed["RepoTags"].as_array()).flatten().filter_map(Value::as_str);
    let others: Vec<_> = tags.filter(|tag| *tag != image).map(str::to_owned).collect();
    for other in others {
        call(link, Method::DELETE, &format!("/images/{other}"), None).await?;
    }
    Ok(())
}

fn container(image: &str, fleet: &str, manager: SocketAddr) -> Value {
    json!({
        "Image": image,
        "Cmd": ["agent", "--data", "/data", "--root", HOST_ROOT, "--join", format!("tcp://{manager}")],
        "Env": [format!("WHARF_BUILD={}", image.rsplit(':').next().unwrap_or(image))],
        "Labels": { AGENT_LABEL: fleet },
        "HostConfig": {
            // It makes devices, routes and rules; beyond that it needs what every container may.
            "CapAdd": ["NET_ADMIN", "NET_RAW"],
            "SecurityOpt": ["apparmor=unconfined", "seccomp=unconfined", "label=disable"],
            // The settings of interfaces are files.
            "ReadonlyPaths": [],
            "MaskedPaths": [],
            // TUN devices, for the encrypted tunnel.
            "DeviceCgroupRules": ["c 10:200 rwm"],
            "NetworkMode": "host",
            "UTSMode": "host",
            "RestartPolicy": { "Name": "always" },
            "Binds": [format!("{AGENT_NAME}:/data")],
            "Mounts": HOST_MOUNTS.map(host_mount),
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m", "max-file": "2" } },
        },
    })
}

fn host_mount(path: &str) -> Value {
    let target = format!("{HOST_ROOT}{}", path.trim_end_matches('/'));
    json!({"Type": "bind", "Source": path, "Target": target, "BindOptions": {"NonRecursive": true}})
}

/// The manager's address as a node reaches it.
async fn address(inner: &Inner, node: &Node) -> Result<SocketAddr, Error> {
    if let Some(advertised) = inner.settings.advertise
        && !advertised.ip().is_unspecified()
    {
        return Ok(advertised);
    }
    let local = match &node.endpoint {
        Endpoint::Unix(_) => IpAddr::from([127, 0, 0, 1]),
        Endpoint::Tcp { host, port } => towards(host, *port).await.map_err(|error| {
            Error::unavailable(format!("no address of this host leads to {host}: {error}; give one with --advertise"))
        })?,
    };
    Ok(SocketAddr::new(local, inner.port))
}

/// The address that packets of this host to another have.
async fn towards(host: &str, port: u16) -> std::io::Result<IpAddr> {
    let target = tokio::net::lookup_host((host, port)).await?.next();
    let target = target.ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    // Nothing is sent by this.
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

/// Makes sure that a node's engine has the image.
async fn bring_image(link: &Link, node: &Node, program: &Path, tag: &str) -> Result<(), Error> {
    let refused = |error: wharf_engine::Error| of_engine(&error, node);
    match call(link, Method::GET, &format!("/images/{AGENT_NAME}:{tag}/json"), None).await {
        Ok(_) => return Ok(()),
        Err(error) if error.class() != Class::NotFound => return Err(refused(error)),
        Err(_) => {}
    }
    let unreadable = |error: std::io::Error| Error::internal(format!("{}: {error}", program.display()));
    let file = tokio::fs::File::open(program).await.map_err(unreadable)?;
    let size = file.metadata().await.map_err(unreadable)?.len();
    let head = stream::once(async move { Ok(Bytes::from(begin("wharf", size, 0o755))) });
    let content = stream::unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok::<_, BodyError>(Bytes::from(chunk)), file))
            }
            Err(error) => Some((Err(error.into()), file)),
        }
    });
    let tail = stream::once(async move { Ok(Bytes::from(end(size))) });
    let frames = head.chain(content).chain(tail).map(|chunk| chunk.map(Frame::data));
    let body: Body = StreamBody::new(frames).boxed_unsync();
    let entry = "changes=ENTRYPOINT%20%5B%22%2Fwharf%22%5D";
    let path = format!("/images/create?fromSrc=-&repo={AGENT_NAME}&tag={tag}&{entry}");
    upload(link, node, Method::POST, &link.path(API_NEWEST, &path), body).await
}

/// The beginning of a file in a tar archive.
fn begin(name: &str, size: u64, mode: u32) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    // A short name fits.
    header.set_path(name).ok();
    header.set_size(size);
    header.set_mode(mode);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// What follows the only file of a tar archive: up to a whole block, and two blocks that end it.
fn end(size: u64) -> Vec<u8> {
    let rest = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0);
    vec![0; rest + 1024]
}

async fn upload(link: &Link, node: &Node, method: Method, path: &str, body: Body) -> Result<(), Error> {
    let request = link.client().request(method, path, body);
    let mut request = request.map_err(|error| of_engine(&error, node))?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    let sent = async {
        let response = link.send(request).await.map_err(|error| of_engine(&error, node))?;
        let status = response.status();
        let answer = collect(response.into_body(), ANSWER_LIMIT).await;
        let answer = answer.map_err(|error| Error::unavailable(format!("{} broke off: {error}", node.name)))?;
        let answer = answer.map_err(|_| Error::internal(format!("{} said too much", node.name)))?;
        match lines::failure(&answer) {
            None if status.is_success() => Ok(()),
            message => Err(Error::internal(message.unwrap_or_else(|| status.to_string()))),
        }
    };
    let late = |_| Error::unavailable(format!("{} did not take it within {CHANGE_WITHIN:?}", node.name));
    tokio::time::timeout(CHANGE_WITHIN, sent).await.map_err(late)?
}

async fn call(link: &Link, method: Method, path: &str, body: Option<String>) -> Result<Bytes, wharf_engine::Error> {
    link.call(method, &link.path(API_NEWEST, path), body.map(Into::into), CHANGE_WITHIN).await
}

/// What tells one build of the program from another.
async fn tag(program: &Path) -> std::io::Result<String> {
    let mut file = tokio::fs::File::open(program).await?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
