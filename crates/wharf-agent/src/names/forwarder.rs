//! What is no name of ours: asked of the name servers outside, once for all who ask the same, and kept.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    cache::{Cache, Hit},
    message::{Query, Transport},
    quota::{Place, Quota},
    reply::{Key, Reply},
    stats::Counters,
    table::Container,
    upstream,
};

/// How many name servers are asked for one question, as in the C library (`MAXNS`).
const UPSTREAMS_MOST: usize = 3;

/// After how long without an answer the next name server is asked too. The first may answer still.
const PATIENCE: Duration = Duration::from_secs(1);

/// After how long a question fails: before Docker's resolver, which waits for 4 s, turns to its next name server.
const DEADLINE: Duration = Duration::from_millis(3500);

/// How long a name server that was silent is asked after the others.
const SUSPECTED: Duration = Duration::from_secs(10);

/// How many questions wait for upstreams at once. Each has a socket per upstream asked: this leaves the agent most of the
/// file descriptors that it has by default.
pub(super) const WAITING_MOST: usize = 512;

/// How many of them one container may have: what Docker's own resolver allows a container. It gets SERVFAIL for more.
pub(super) const WAITING_MOST_EACH: usize = 100;

type Outcome = Option<Arc<Reply>>;
type Flights = HashMap<(Arc<Key>, Transport), watch::Receiver<Option<Outcome>>>;

#[derive(Debug)]
pub(super) struct Forwarder {
    upstream_port: u16,
    /// The port that we listen on ourselves.
    own_port: u16,
    host: RwLock<Arc<[IpAddr]>>,
    own: RwLock<BTreeSet<IpAddr>>,
    cache: Mutex<Cache>,
    flights: Mutex<Flights>,
    waiting: Arc<Quota<Arc<str>>>,
    suspects: Mutex<HashMap<IpAddr, Instant>>,
    counters: Arc<Counters>,
    stopped: CancellationToken,
}

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Fate {
    /// Answered before.
    Kept(Hit),
    /// Somebody is asked.
    Waiting(Waiting),
    /// Nobody can be asked.
    Failed,
}

/// A question that waits, with its place among those that may.
#[derive(Debug)]
pub(super) struct Waiting {
    outcome: watch::Receiver<Option<Outcome>>,
    _place: Place<Arc<str>>,
}

// === impl Forwarder ===

impl Forwarder {
    pub(super) fn new(
        own_port: u16,
        upstream_port: u16,
        counters: Arc<Counters>,
        stopped: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstream_port,
            own_port,
            host: RwLock::new(Arc::new([])),
            own: RwLock::default(),
            cache: Mutex::new(Cache::new()),
            flights: Mutex::default(),
            waiting: Quota::new(WAITING_MOST, WAITING_MOST_EACH),
            suspects: Mutex::default(),
            counters,
            stopped,
        })
    }

    /// The host's name servers, in order.
    pub(super) fn set_upstreams(&self, upstreams: Vec<IpAddr>) {
        *self.host.write().unwrap_or_else(PoisonError::into_inner) = upstreams.into();
    }

    /// The addresses that we listen on: asking there would be asking ourselves.
    pub(super) fn set_own(&self, own: BTreeSet<IpAddr>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Looks for the answer, or has it asked for. Never waits itself.
    pub(super) fn start(
        self: &Arc<Self>,
        query: &Query,
        asker: &Container,
        transport: Transport,
        now: Instant,
    ) -> Fate {
        let upstreams = self.upstreams_of(asker);
        if upstreams.is_empty() {
            return Fate::Failed;
        }
        let key = Arc::new(Key::new(query, upstreams));
        if let Some(hit) = self.cached(&key, now) {
            return Fate::Kept(hit);
        }
        let Some(place) = self.waiting.take(&asker.id) else { return Fate::Failed };
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = flights.get(&(key.clone(), transport)) {
            return Fate::Waiting(Waiting { outcome: outcome.clone(), _place: place });
        }
        // The flight that this question would have joined may have landed in between.
        if let Some(hit) = self.cached(&key, now) {
            return Fate::Kept(hit);
        }
        let (landed, outcome) = watch::channel(None);
        flights.insert((key.clone(), transport), outcome.clone());
        drop(flights);
        self.counters.forwarded.add_one();
        let forwarder = self.clone();
        tokio::spawn(async move { forwarder.fly(key, transport, landed).await });
        Fate::Waiting(Waiting { outcome, _place: place })
    }

    fn cached(&self, key: &Key, now: Instant) -> Option<Hit> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key, now)
    }

    /// Whom to ask for a container: those that its user gave, or the host's.
    fn upstreams_of(&self, asker: &Container) -> Arc<[IpAddr]> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let usable = |address: &&IpAddr| {
            let address = address.to_canonical();
            let is_us = self.own_port == self.upstream_port && own.contains(&address);
            !address.is_unspecified() && !address.is_multicast() && !is_us
        };
        let chosen = |given: &[IpAddr]| -> Arc<[IpAddr]> {
            given.iter().filter(usable).take(UPSTREAMS_MOST).map(IpAddr::to_canonical).collect()
        };
        let given = chosen(&asker.upstreams);
        if given.is_empty() { chosen(&self.host.read().unwrap_or_else(PoisonError::into_inner)) } else { given }
    }

    async fn fly(&self, key: Arc<Key>, transport: Transport, landed: watch::Sender<Option<Outcome>>) {
        let asked = self.stopped.run_until_cancelled(self.ask(&key, transport)).await;
        let outcome = asked.flatten().map(Arc::new);
        if let Some(reply) = &outcome {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(key.clone(), reply.clone(), Instant::now());
        }
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key, transport));
        landed.send_replace(Some(outcome));
    }

    /// Asks one after the other, each a little later or as soon as one before has failed; the first answer counts.
    async fn ask(&self, key: &Arc<Key>, transport: Transport) -> Option<Reply> {
        let deadline = Instant::now() + DEADLINE;
        let mut left = self.in_order(&key.upstreams).into_iter();
        let mut asked = JoinSet::new();
        let mut latest = None;
        loop {
            // One is asked at the start, and after each turn of the loop that gave no answer.
            if let Some(address) = left.next() {
                latest = Some(address);
                let (key, server) = (key.clone(), SocketAddr::new(address, self.upstream_port));
                asked.spawn(async move { (address, upstream::ask(server, &key, transport, deadline).await) });
            }
            // The last one has until the deadline, when all of them give up by themselves.
            let next_at = if left.len() > 0 { Instant::now() + PATIENCE } else { deadline + PATIENCE };
            tokio::select! {
                done = asked.join_next() => match done {
                    None => return None,
                    Some(Ok((address, Ok(reply)))) => {
                        self.trust(address);
                        return Some(reply);
                    }
                    Some(Ok((address, Err(failure)))) => {
                        tracing::debug!(upstream = %address, error = &failure as &dyn std::error::Error, "no answer");
                        if matches!(failure, upstream::Failure::Silent) {
                            self.suspect(address);
                        }
                    }
                    Some(Err(_)) => {}
                },
                () = sleep_until(next_at) => latest.into_iter().for_each(|address| self.suspect(address)),
            }
        }
    }

    /// Those that were silent of late come last.
    fn in_order(&self, upstreams: &[IpAddr]) -> Vec<IpAddr> {
        let now = Instant::now();
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let mut upstreams = upstreams.to_vec();
        upstreams.sort_by_key(|address| suspects.get(address).is_some_and(|until| now < *until));
        upstreams
    }

    fn suspect(&self, upstream: IpAddr) {
        let now = Instant::now();
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.retain(|_, until| now < *until);
        suspects.insert(upstream, now + SUSPECTED);
    }

    fn trust(&self, upstream: IpAddr) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).remove(&upstream);
    }
}

// === impl Waiting ===

impl Waiting {
    /// The answer, once there is one; nothing if nobody has any.
    pub(super) async fn outcome(mut self) -> Option<Arc<Reply>> {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().flatten(),
            // The flight ended without landing: it panicked, or the runtime stops.
            Err(_) => None,
        }
    }
}
