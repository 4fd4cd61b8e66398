//! A simulated agent: it joins, is told, and reports, as a real one does; there is no kernel behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, task::JoinHandle};
use wharf_authority::{agent, joining::Joining, names::MANAGER_NAME, token::JoinToken};
use wharf_engine::{Client, Lines, TlsClient, empty, full};
use wharf_model::Endpoint;
use wharf_protocol::{
    JOIN_PATH, Join, Joined, REPORT_PATH, Report, State, Update, VERSION, VERSION_HEADER, WATCH_PATH,
};
use wharf_sim::Engine;

/// A manager that is there answers by then.
const WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(50);

/// How an agent is to behave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conduct {
    /// What it is told is in force so much later.
    pub(crate) delay: Duration,
    /// It says nothing of what it has applied.
    pub(crate) mute: bool,
    /// It reaches no manager.
    pub(crate) cut_off: bool,
    /// It reads nothing of what it is told.
    pub(crate) stuck: bool,
    /// Raised to have it connect anew.
    pub(crate) session: u64,
}

/// What an agent knows, and what happened to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// What was told, and what was kept of nodes that were not read.
    pub(crate) state: State,
    /// Nodes that the manager had not read.
    pub(crate) unread: BTreeSet<u32>,
    /// The last number.
    pub(crate) synced: u64,
    /// How often it was told everything.
    pub(crate) resets: u64,
    /// Batches and updates that it was told in all, by kind.
    pub(crate) batches: u64,
    pub(crate) updates: BTreeMap<&'static str, u64>,
    /// Names that were known and are no more, in the order in which they went.
    pub(crate) vanished: Vec<String>,
    /// How often it has joined.
    pub(crate) joined: u64,
}

/// An agent. It ends when it is dropped.
pub(crate) struct Agent {
    known: Arc<Mutex<Known>>,
    conduct: watch::Sender<Conduct>,
    task: JoinHandle<()>,
}

/// The agent's life, in its task.
struct Life {
    engine: Arc<Engine>,
    port: watch::Receiver<u16>,
    conduct: watch::Receiver<Conduct>,
    known: Arc<Mutex<Known>>,
    token: Vec<u8>,
    client: Option<(u16, Client)>,
    credentials: Option<[String; 3]>,
}

// === impl Agent ===

impl Agent {
    /// An agent that runs whenever a manager has brought it to this engine; managers are at this port.
    pub(crate) fn start(engine: Arc<Engine>, port: watch::Receiver<u16>, conduct: Conduct) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let (conduct, follow) = watch::channel(conduct);
        let (token, client, credentials) = Default::default();
        let life = Life { engine, port, conduct: follow, known: Arc::clone(&known), token, client, credentials };
        Self { known, conduct, task: tokio::spawn(life.live()) }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Conduct)) {
        self.conduct.send_modify(change);
    }

    /// All updates that it was told.
    pub(crate) fn updates(&self) -> u64 {
        self.known().updates.values().sum()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Life ===

impl Life {
    async fn live(mut self) {
        loop {
            let session = self.conduct.borrow_and_update().session;
            if !self.conduct.borrow().cut_off {
                let mut conduct = self.conduct.clone();
                let ended = async move {
                    conduct.wait_for(|now| now.cut_off || now.session != session).await.ok();
                };
                tokio::select! {
                    _ = self.session() => {}
                    () = ended => {}
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Follows a manager for as long as that goes.
    async fn session(&mut self) -> Option<()> {
        let token = self.engine.file("wharf-agent", "/data/token")?;
        if token != self.token {
            self.credentials = Some(self.join(&String::from_utf8(token.clone()).unwrap()).await?);
            self.token = token;
            self.client = None;
            self.known.lock().unwrap().joined += 1;
        }
        let port = *self.port.borrow();
        if self.client.as_ref().is_none_or(|(known, _)| *known != port) {
            let [ca, certificate, key] = self.credentials.as_ref()?;
            let config = agent::agent_config(ca, certificate, key).unwrap();
            self.client = Some((port, client(port, config)));
        }
        let client = self.client.as_ref()?.1.clone();
        let mut request = client.request(Method::GET, WATCH_PATH, empty()).unwrap();
        request.headers_mut().insert(VERSION_HEADER, VERSION.into());
        let response = client.send(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut lines = Lines::new(response.into_body());
        self.report(&client, 0).await?;
        let mut batch = Vec::new();
        let mut unread = BTreeSet::new();
        loop {
            self.conduct.wait_for(|conduct| !conduct.stuck).await.ok()?;
            let line = tokio::time::timeout(WITHIN, lines.next()).await.ok()?.ok()??;
            match serde_json::from_slice(&line).unwrap() {
                Update::Alive | Update::Probe(_) => {}
                Update::Unread(nodes) => unread = nodes,
                Update::Synced(number) => {
                    self.commit(std::mem::take(&mut batch), std::mem::take(&mut unread), number);
                    self.applied(&client, number).await?;
                }
                update => batch.push(update),
            }
        }
    }

    async fn join(&self, token: &str) -> Option<[String; 3]> {
        let parsed: JoinToken = token.parse().unwrap();
        let joining = Joining::new(parsed.authority).unwrap();
        let request = agent::generate_csr().unwrap();
        let join = Join {
            token: token.to_owned(),
            request: request.request,
            engine: String::new(),
            hostname: self.engine.name().to_owned(),
            addresses: Vec::new(),
        };
        let client = client(*self.port.borrow(), joining.config.clone());
        let joined: Joined = ask(&client, JOIN_PATH, &join).await?;
        Some([joining.authority().unwrap(), joined.certificate, request.key])
    }

    fn commit(&self, batch: Vec<Update>, unread: BTreeSet<u32>, number: u64) {
        let mut known = self.known.lock().unwrap();
        known.batches += 1;
        batch.iter().for_each(|update| *known.updates.entry(kind(update)).or_default() += 1);
        known.synced = number;
        let changes = if batch.first() == Some(&Update::Reset) {
            let mut next = State::default();
            batch.into_iter().for_each(|update| next.apply(update));
            next.keep_unread(&known.state, &unread);
            known.unread = unread;
            known.resets += 1;
            known.state.difference(&next)
        } else {
            batch
        };
        for change in changes {
            let id = match &change {
                Update::Container(id, _) | Update::ContainerGone(id) => id.clone(),
                _ => String::new(),
            };
            let before: BTreeSet<_> = names(&known.state, &id).collect();
            known.state.apply(change);
            let gone: Vec<_> = before.difference(&names(&known.state, &id).collect()).cloned().collect();
            known.vanished.extend(gone);
        }
    }

    async fn applied(&self, client: &Client, number: u64) -> Option<()> {
        let Conduct { delay, mute, .. } = self.conduct.borrow().clone();
        if mute {
            return Some(());
        }
        tokio::time::sleep(delay).await;
        self.report(client, number).await
    }

    async fn report(&self, client: &Client, applied: u64) -> Option<()> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let report = Report {
            applied,
            version: "sim".to_owned(),
            underlay: Some(std::net::Ipv4Addr::LOCALHOST),
            underlay_mtu: 1500,
            clock: u64::try_from(clock.as_millis()).unwrap(),
            ..Report::default()
        };
        ask::<serde_json::Value>(client, REPORT_PATH, &report).await.map(drop)
    }
}

fn client(port: u16, config: rustls::ClientConfig) -> Client {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
    Client::with_tls(endpoint, Some(TlsClient::of(Arc::new(config), MANAGER_NAME)))
}

async fn ask<T: DeserializeOwned>(client: &Client, path: &str, message: &impl Serialize) -> Option<T> {
    let mut request = client.request(Method::POST, path, full(serde_json::to_vec(message).unwrap())).unwrap();
    request.headers_mut().insert(VERSION_HEADER, VERSION.into());
    let answer = client.call(request, WITHIN).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

fn kind(update: &Update) -> &'static str {
    match update {
        Update::Reset => "reset",
        Update::Me(_) => "me",
        Update::Peer(..) => "peer",
        Update::PeerGone(_) => "peer gone",
        Update::Network(..) => "network",
        Update::NetworkGone(_) => "network gone",
        Update::Container(..) => "container",
        Update::ContainerGone(_) => "container gone",
        Update::Unread(_) | Update::Synced(_) | Update::Probe(_) | Update::Alive => "other",
    }
}

/// What a container that runs is called on which network.
fn names<'a>(state: &'a State, id: &'a str) -> impl Iterator<Item = String> + 'a {
    state.containers.get(id).into_iter().filter(|container| container.up).flat_map(move |container| {
        container.endpoints.iter().flat_map(move |endpoint| {
            let called = [&container.name].into_iter().chain(&endpoint.aliases);
            called.map(move |name| format!("{name} ({}) on {}", &id[..6], &endpoint.network[..6]))
        })
    })
}
