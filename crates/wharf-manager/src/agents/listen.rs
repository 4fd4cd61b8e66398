//! Where agents connect: TLS in which both sides prove who they are; who has no certificate yet may only join.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use wharf_authority::{names::NodeNumber, server::peer, tokens::Scope};
use wharf_engine::{Body, BodyError, collect};
use wharf_model::{Agent, Class, Node, NodeId};
use wharf_protocol::{
    JOIN_PATH, Join, Joined, MANAGER_PORT, PROBED_PATH, Probed, RENEW_PATH, REPORT_PATH, Renew, Renewed, Report,
    Update, VERSION, VERSION_HEADER, WATCH_PATH,
};
use wharf_store::records::{Expect, Record};

use super::{
    Inner,
    hub::{BATCHES, Message},
};
use crate::{
    Error,
    fleet::Fleet,
    front::{failure, with_status},
    records::Records,
};

/// Connections of all agents: each has one that watches, and one that reports now and then.
const CONNECTIONS: usize = 40_000;

/// Handshakes of strangers at a time: whoever is no agent must not keep agents out.
const HANDSHAKES: usize = 256;

/// A handshake and a request's head are there by then, or the other side has no wish to.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The largest message of an agent.
const MESSAGE_LIMIT: usize = 4 << 20;

/// What was sent to an agent that is away without a word is lost after so long, and its connection with it.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// When there is nothing to tell, this often that there is not.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

/// What is kept of an agent, so that tunnels to its node stay while a manager starts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AgentRecord {
    underlay: IpAddr,
    underlay_mtu: u32,
    key: Box<str>,
}

impl Record for AgentRecord {
    const PREFIX: &'static str = "agents/";
    const FORMAT: u32 = 1;
}

/// The port that agents were given: they come back to it.
#[derive(Debug, Serialize, Deserialize)]
struct PortRecord {
    port: u16,
}

impl Record for PortRecord {
    const PREFIX: &'static str = "settings/";
    const FORMAT: u32 = 1;
}

/// Listens for agents: where it is said, else at the port of last time, else at the usual one, else at any.
pub(super) async fn bind(records: &Records, advertise: Option<SocketAddr>) -> Result<TcpListener, Error> {
    let known = records.get::<PortRecord>("agent-port").await?.map(|record| record.port);
    let at = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let wanted = advertise.map(|address| address.port()).or(known).unwrap_or(MANAGER_PORT);
    let listener = match TcpListener::bind(at(wanted)).await {
        Err(_) if advertise.is_none() && known.is_none() => TcpListener::bind(at(0)).await,
        bound => bound,
    };
    let listener = listener.map_err(|error| {
        Error::unavailable(format!(
            "cannot listen for agents on port {wanted}: {error}; stop who has it, or give another with --advertise"
        ))
    })?;
    let port = listener.local_addr().map_err(|error| Error::internal(error.to_string()))?.port();
    if known != Some(port) {
        records.put("agent-port", &PortRecord { port }, Expect::Any).await?;
    }
    Ok(listener)
}

/// Puts what is kept of agents in the state, until they say it themselves.
pub(super) async fn recall(fleet: &Fleet, records: &Records) -> Result<(), Error> {
    for (key, record) in records.all::<AgentRecord>().await? {
        let number = key.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
        let agent = Agent {
            connected: false,
            version: "".into(),
            underlay: record.underlay,
            underlay_mtu: record.underlay_mtu,
            key: record.key,
            resolvers: Vec::new(),
            routes: Vec::new(),
            clock_skew: 0,
            problems: Vec::new(),
        };
        if let Some(number) = number {
            fleet.put_agent(NodeId(number), agent).await;
        }
    }
    Ok(())
}

/// Serves agents until told to stop.
pub(super) async fn serve(
    inner: Arc<Inner>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let (connections, handshakes) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(HANDSHAKES)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => {
                let within = u32::try_from(HEARD_WITHIN.as_millis()).unwrap_or(u32::MAX);
                if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, within) {
                    tracing::debug!("an agent that vanishes is found out late: {error}");
                }
                stream
            }
            Err(error) => {
                // Out of file descriptors, say: it passes.
                tracing::warn!("cannot accept an agent's connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (Ok(connection), Ok(handshake)) =
            (Arc::clone(&connections).acquire_owned().await, Arc::clone(&handshakes).acquire_owned().await)
        else {
            return;
        };
        let (inner, acceptor, stop) = (Arc::clone(&inner), acceptor.clone(), stop.clone());
        tokio::spawn(async move {
            let established = tokio::time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await;
            drop(handshake);
            match established {
                Ok(Ok(stream)) => tokio::select! {
                    () = connection_task(inner, stream) => {}
                    () = stop.cancelled() => {}
                },
                Ok(Err(error)) => tracing::debug!("an agent's handshake failed: {error}"),
                Err(_) => tracing::debug!("an agent's handshake took too long"),
            }
            drop(connection);
        });
    }
}

async fn connection_task(inner: Arc<Inner>, stream: tokio_rustls::server::TlsStream<TcpStream>) {
    let node = peer(stream.get_ref().1.peer_certificates()).map(|NodeNumber(number)| NodeId(number));
    let node = node.map_err(|error| Error::new(Class::Forbidden, error.to_string()));
    let service = service_fn(move |request| {
        let (inner, node) = (Arc::clone(&inner), node.clone());
        async move {
            let answered = answer(&inner, request, node).await;
            let mut response = answered.unwrap_or_else(|error| failure(&error));
            response.headers_mut().insert(VERSION_HEADER, VERSION.into());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN * 6)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("an agent's connection broke off: {error}");
    }
}

async fn answer(
    inner: &Arc<Inner>,
    request: Request<Incoming>,
    node: Result<NodeId, Error>,
) -> Result<Response<Body>, Error> {
    let theirs = request.headers().get(VERSION_HEADER).and_then(|version| version.to_str().ok()?.parse::<u32>().ok());
    if theirs != Some(VERSION) {
        let theirs = theirs.map_or_else(|| "none".to_owned(), |version| version.to_string());
        return Err(Error::invalid(format!(
            "the agent speaks version {theirs} of the protocol, this manager version {VERSION}: upgrade the older one"
        )));
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (method, path.as_str()) {
        (Method::POST, JOIN_PATH) => json(&join(inner, body(request).await?)?),
        (Method::POST, RENEW_PATH) => {
            let (node, renew): (_, Renew) = (node?, body(request).await?);
            json(&Renewed { certificate: inner.tokens.sign(&renew.request, node)? })
        }
        (Method::GET, WATCH_PATH) => watch(inner, node?).await,
        (Method::POST, REPORT_PATH) => {
            report(inner, node?, body(request).await?).await?;
            Ok(with_status(StatusCode::OK, "{}"))
        }
        (Method::POST, PROBED_PATH) => {
            let (_, probed): (_, Probed) = (node?, body(request).await?);
            if let Some(waiting) = inner.probes.lock().await.remove(&probed.id) {
                // Whoever asked may have gone away.
                waiting.send(probed).ok();
            }
            Ok(with_status(StatusCode::OK, "{}"))
        }
        _ => Err(Error::not_found("page not found")),
    }
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Error> {
    let read = tokio::time::timeout(HEAD_WITHIN, collect(request.into_body(), MESSAGE_LIMIT)).await;
    let read = read.map_err(|_| Error::invalid("the message did not come whole in time"))?;
    let bytes = read.map_err(|error| Error::invalid(format!("the message broke off: {error}")))?;
    let bytes =
        bytes.map_err(|limit| Error::new(Class::TooLarge, format!("the message is larger than {limit} bytes")))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("invalid message: {error}")))
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Error> {
    let text = serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))?;
    Ok(with_status(StatusCode::OK, text))
}

fn join(inner: &Inner, join: Join) -> Result<Joined, Error> {
    let node = match inner.tokens.redeem(&join.token)? {
        Scope::Node(NodeNumber(number)) => NodeId(number),
        Scope::AnyNode => node_of(inner, &join)?,
    };
    let certificate = inner.tokens.sign(&join.request, node)?;
    tracing::info!("the agent of {} has joined", name(inner, node));
    Ok(Joined { node: node.0, certificate, ca: inner.tokens.ca() })
}

/// The node that an agent is of which somebody started by hand: its engine says who it is. Cloned hosts say the same; then
/// their addresses tell.
fn node_of(inner: &Inner, join: &Join) -> Result<NodeId, Error> {
    let snapshot = inner.fleet.snapshot();
    let same: Vec<_> =
        snapshot.nodes().filter(|node| node.engine.as_ref().is_some_and(|engine| *engine.id == *join.engine)).collect();
    let here = |node: &&&Arc<Node>| {
        let host = node.host().and_then(|host| host.parse::<IpAddr>().ok());
        host.is_some_and(|host| join.addresses.contains(&host))
    };
    match same[..] {
        [one] => Ok(one.id),
        [] => Err(Error::not_found(format!(
            "no node of the fleet has the engine of {}: name it in the discovery first (wharf serve nodes://…, file://…)",
            join.hostname
        ))),
        _ => same.iter().find(here).map(|node| node.id).ok_or_else(|| {
            Error::conflict(format!("several nodes have the engine id of {}, and none its address", join.hostname))
        }),
    }
}

async fn watch(inner: &Arc<Inner>, node: NodeId) -> Result<Response<Body>, Error> {
    let (updates, told) = mpsc::channel(BATCHES);
    let ended = || Error::unavailable("the manager is shutting down");
    let gone = Gone::new(inner, node);
    inner.hub.send(Message::Watch(node, updates)).await.map_err(|_| ended())?;
    let lines = futures_util::stream::unfold((told, gone), |(mut told, gone)| async move {
        let updates = match tokio::time::timeout(ALIVE_EVERY, told.recv()).await {
            Ok(updates) => updates?,
            Err(_) => vec![Update::Alive],
        };
        let mut text = Vec::new();
        for update in updates {
            // Maps of ours have keys that JSON can have.
            serde_json::to_writer(&mut text, &update).ok();
            text.push(b'\n');
        }
        Some((Ok::<_, BodyError>(Frame::data(Bytes::from(text))), (told, gone)))
    });
    Ok(Response::new(StreamBody::new(lines).boxed_unsync()))
}

/// Tells the state when an agent's connection ends.
struct Gone {
    inner: Arc<Inner>,
    node: NodeId,
    /// Which of its connections this is.
    number: u64,
}

impl Gone {
    fn new(inner: &Arc<Inner>, node: NodeId) -> Self {
        let number = inner.next_watch.fetch_add(1, Ordering::Relaxed);
        inner.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(node, number);
        Self { inner: Arc::clone(inner), node, number }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let (inner, node) = (Arc::clone(&self.inner), self.node);
        let mut watches = inner.watches.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have come back before this end was noticed.
        if watches.get(&node) != Some(&self.number) {
            return;
        }
        watches.remove(&node);
        drop(watches);
        tokio::spawn(async move {
            let snapshot = inner.fleet.snapshot();
            let Some(agent) = snapshot.node(node).and_then(|node| node.agent.clone()) else { return };
            tracing::warn!("the agent of {} is not connected any more", name(&inner, node));
            inner.fleet.put_agent(node, Agent { connected: false, ..Agent::clone(&agent) }).await;
        });
    }
}

async fn report(inner: &Inner, node: NodeId, report: Report) -> Result<(), Error> {
    if inner.fleet.snapshot().node(node).is_none() {
        // It has left, or discovery has not named it yet after a start.
        return Err(Error::not_found(format!("node {} is not of this fleet now", node.0)));
    }
    let Some(underlay) = report.underlay.map(IpAddr::V4) else {
        return Err(Error::invalid("the agent has found no IPv4 address of its host"));
    };
    let agent = Agent {
        connected: true,
        version: report.version.into(),
        underlay,
        underlay_mtu: report.underlay_mtu,
        key: report.key.into(),
        resolvers: report.resolvers,
        routes: report.routes,
        clock_skew: skew(report.clock),
        problems: report.problems.into_iter().map(Into::into).collect(),
    };
    let known = inner.fleet.snapshot().node(node).and_then(|node| node.agent.clone());
    if known.as_deref() != Some(&agent) {
        let kept = |agent: &Agent| AgentRecord {
            underlay: agent.underlay,
            underlay_mtu: agent.underlay_mtu,
            key: agent.key.clone(),
        };
        if known.as_deref().map(kept) != Some(kept(&agent)) {
            inner.records.put(&format!("{:08}", node.0), &kept(&agent), Expect::Any).await?;
        }
        let problems = |agent: &Agent| agent.problems.clone();
        if !agent.problems.is_empty() && known.as_deref().map(problems) != Some(problems(&agent)) {
            tracing::warn!("the agent of {}: {}", name(inner, node), agent.problems.join("; "));
        }
        if known.is_none_or(|known| !known.connected) {
            tracing::info!("the agent of {} is connected", name(inner, node));
        }
        inner.fleet.put_agent(node, agent).await;
    }
    inner.progress.send_if_modified(|progress| {
        let told = progress.agents.get_mut(&node);
        told.is_some_and(|told| std::mem::replace(&mut told.applied, report.applied) != report.applied)
    });
    Ok(())
}

/// By how many seconds a clock is ahead of ours. What a report takes on its way makes no difference.
fn skew(clock: u64) -> i64 {
    let ours = crate::fleet::now().as_nanos() / 1_000_000;
    let ahead = i64::try_from(clock).unwrap_or(i64::MAX).saturating_sub(ours) / 1000;
    if ahead.abs() < 2 { 0 } else { ahead }
}

fn name(inner: &Inner, node: NodeId) -> String {
    inner.fleet.snapshot().node(node).map_or_else(|| format!("node {}", node.0), |node| node.name.to_string())
}
