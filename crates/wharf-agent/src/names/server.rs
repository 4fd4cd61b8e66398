//! The server: its sockets, and what becomes of each question.

mod listen;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hickory_proto::op::ResponseCode;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::listen::Listeners;
use super::{
    forwarder::{Fate, Forwarder, Waiting},
    message::{self, Query, Transport},
    quota::Quota,
    respond::{Step, step},
    stats::{Counters, Stats},
    table::Table,
};

/// Where the server listens and asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The port that it listens on, on each of its addresses.
    pub port: u16,
    /// The port of the name servers that it asks.
    pub upstream_port: u16,
}

/// A DNS server for the containers of a node. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    listeners: Arc<Mutex<Listeners>>,
    /// The addresses that are listened on have changed.
    changed: Arc<Notify>,
}

/// What every socket's task needs.
#[derive(Debug)]
struct Core {
    table: Arc<Table>,
    forwarder: Arc<Forwarder>,
    counters: Arc<Counters>,
    connections: Arc<Quota<IpAddr>>,
    /// What shuffles the next answer.
    seed: AtomicU64,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

/// What becomes of a question.
enum Answering {
    /// Nothing.
    Dropped,
    Ready(Vec<u8>),
    Later(Box<Query>, Waiting),
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self { port: 53, upstream_port: 53 }
    }
}

// === impl Server ===

impl Server {
    /// A server that answers from the table, and listens nowhere yet. Within a Tokio runtime.
    pub fn start(table: Arc<Table>, config: Config) -> Self {
        let (counters, stopped) = (Arc::<Counters>::default(), CancellationToken::new());
        let core = Arc::new(Core {
            table,
            forwarder: Forwarder::new(config.port, config.upstream_port, counters.clone(), stopped.clone()),
            counters,
            connections: Quota::new(tcp::CONNECTIONS_MOST, tcp::CONNECTIONS_MOST_EACH),
            seed: AtomicU64::new(first_seed()),
            tasks: TaskTracker::new(),
            stopped,
        });
        let listeners = Arc::new(Mutex::new(Listeners::new(config.port)));
        let changed = Arc::new(Notify::new());
        let keeper = keep_listening(core.clone(), listeners.clone(), changed.clone());
        core.tasks.spawn(core.stopped.clone().run_until_cancelled_owned(keeper));
        Self { core, listeners, changed }
    }

    /// Listens on exactly these addresses, by UDP and TCP. Those that cannot be had are in [`Server::problems`] when this
    /// returns, and are tried again until they can. An address need not be there yet.
    pub fn listen_on(&self, addresses: BTreeSet<IpAddr>) {
        let addresses: BTreeSet<_> = addresses.iter().map(IpAddr::to_canonical).collect();
        self.core.forwarder.set_own(addresses.clone());
        lock(&self.listeners).want(addresses, &self.core);
        self.changed.notify_one();
    }

    /// The host's name servers, in order: asked for what is no name of the fleet, unless the container has its own. Our
    /// own addresses among them are left out.
    pub fn set_upstreams(&self, upstreams: Vec<IpAddr>) {
        self.core.forwarder.set_upstreams(upstreams);
    }

    /// The wanted addresses that are not listened on, or by one transport only: why, and what to do about it.
    pub fn problems(&self) -> BTreeMap<IpAddr, String> {
        lock(&self.listeners).problems()
    }

    /// What the server did so far.
    pub fn stats(&self) -> Stats {
        self.core.counters.read()
    }

    /// Ends the server. When this returns, its addresses are free.
    pub async fn stop(self) {
        self.core.stopped.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.core.stopped.cancel();
    }
}

/// Tries again for what could not be had, less and less often.
async fn keep_listening(core: Arc<Core>, listeners: Arc<Mutex<Listeners>>, changed: Arc<Notify>) {
    let mut pause = listen::RETRY_FIRST;
    loop {
        let complete = lock(&listeners).is_complete();
        tokio::select! {
            () = changed.notified() => pause = listen::RETRY_FIRST,
            () = sleep(pause), if !complete => {
                lock(&listeners).bind_missing(&core);
                pause = (pause * 2).min(listen::RETRY_MOST);
            }
        }
    }
}

fn lock(listeners: &Mutex<Listeners>) -> std::sync::MutexGuard<'_, Listeners> {
    // A panic in between leaves a socket missing at worst, which is then bound again.
    listeners.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the answers' shuffling starts, so that two nodes do not send everybody to the same replica.
fn first_seed() -> u64 {
    let mut seed = [0; 8];
    // Without the kernel's random numbers the order is foreseeable, and right all the same.
    match rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u64::from_ne_bytes(seed),
        Err(_) => 0,
    }
}

// === impl Core ===

impl Core {
    /// Answers, or sees to it that somebody else is asked. Never waits.
    fn handle(&self, bytes: &[u8], source: IpAddr, transport: Transport) -> Answering {
        let (now, seed) = (Instant::now(), self.seed.fetch_add(1, Ordering::Relaxed));
        self.counters.queries.add_one();
        match step(&self.table, bytes, source, transport, now, seed) {
            Step::Noise => {
                self.counters.malformed.add_one();
                Answering::Dropped
            }
            Step::Bad(answer) => {
                self.counters.malformed.add_one();
                Answering::Ready(answer)
            }
            Step::Refused(answer) => {
                self.counters.refused.add_one();
                Answering::Ready(answer)
            }
            Step::Answered(answer) => {
                self.counters.answered.add_one();
                Answering::Ready(answer)
            }
            Step::Forward(query, asker) => match self.forwarder.start(&query, &asker, transport, now) {
                Fate::Kept(hit) => {
                    self.counters.cache_hits.add_one();
                    Answering::Ready(hit.reply.to_client(&query, transport, Some(hit.age)))
                }
                Fate::Waiting(waiting) => Answering::Later(query, waiting),
                Fate::Failed => Answering::Ready(self.failed(&query)),
            },
        }
    }

    /// The answer to a question that had to wait.
    async fn finish(&self, query: &Query, waiting: Waiting, transport: Transport) -> Vec<u8> {
        match waiting.outcome().await {
            Some(reply) => reply.to_client(query, transport, None),
            None => self.failed(query),
        }
    }

    fn failed(&self, query: &Query) -> Vec<u8> {
        self.counters.failures.add_one();
        message::error(query, ResponseCode::ServFail)
    }
}
