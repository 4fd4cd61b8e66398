//! One task per engine: says hello, subscribes to its events, reads all it has, and reads again whatever an event touches.
//!
//! An event is only a hint that something changed: what is put in the state is always read from the engine afterwards.
//! So events may be lost, doubled or out of order, and the state is right all the same once they have been followed.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, select_ok},
    stream::FuturesUnordered,
};
use hyper::body::Incoming;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use wharf_engine::{
    Error as EngineError, Lines, Pulse,
    wire::{self, Touched},
};
use wharf_model::{Health, Node, Timestamp};

use super::{
    Fleet, Link, NodeEvent, Orphans,
    job::{Job, read},
    link::{Observation, Versions},
    reader::{Error, Reader},
    state::Event,
};
use crate::{API_NEWEST, view::events::of_fleet};

/// An engine from which nothing was heard for this long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(2);

/// Probes fall due together, at most so much later: to wake up for many at once costs a fraction of what it costs to wake up for
/// each.
const BEAT: Duration = Duration::from_millis(100);

/// The time it has to answer, first and second time. The first failure makes it a suspect, the second unhealthy.
const PROBE_WITHIN: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];

/// All that an engine has is read again this often, whatever its events said.
const RELIST: Duration = Duration::from_secs(60);

/// What is done to every engine now and then costs the more, the more there are: in a large fleet each is probed, and read
/// again, less often, so that all of it together stays at a thousand probes and thirty readings a second. Connections that
/// end tell of a dead engine all the same, and a request that waits has its engine probed at once.
const SPACING: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(33)];

/// Where probes are further apart than this, none keeps its connection: thousands of engines would need as many open files.
const KEEP: Duration = Duration::from_secs(5);

/// Between two attempts to reach an engine: first and longest.
const RETRY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];

/// What could not be read is read again after so long: first and longest.
const AGAIN: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(20)];

/// Things of one engine that are read at once.
const READS: usize = 16;

/// A job under way: which it is, and what it finds that has to be read as well.
type Running = BoxFuture<'static, (Job, Result<Vec<Job>, Error>)>;

/// A job that waits or runs, and those who wait for it.
#[derive(Debug, Default)]
struct Pending {
    running: bool,
    /// Something changed since it began: it has to run again.
    again: bool,
    waiting: Vec<oneshot::Sender<()>>,
    waiting_again: Vec<oneshot::Sender<()>>,
}

/// Watches one engine for as long as it belongs to the fleet.
pub(super) struct Watcher {
    fleet: Fleet,
    link: Arc<Link>,
    observations: mpsc::Receiver<Observation>,
    orphans: Orphans,
    /// The engine's time of the last event that was seen: a later subscription begins there.
    last_event: Option<Timestamp>,
}

/// What one connection to an engine has in hand.
struct Session<'a> {
    fleet: &'a Fleet,
    link: &'a Link,
    orphans: &'a Orphans,
    reader: Reader,
    pulse: Pulse,
    pending: BTreeMap<Job, Pending>,
    queue: VecDeque<Job>,
    running: FuturesUnordered<Running>,
    /// What could not be read, and who waits for it all the same.
    failed: BTreeMap<Job, Vec<oneshot::Sender<()>>>,
    /// When it is tried again, and how long after the next failure.
    again: (Instant, Duration),
    /// The last event before this connection: those up to there have been told.
    told: Option<Timestamp>,
}

// === impl Watcher ===

impl Watcher {
    pub(super) fn new(
        fleet: Fleet,
        link: Arc<Link>,
        observations: mpsc::Receiver<Observation>,
        orphans: Orphans,
    ) -> Self {
        Self { fleet, link, observations, orphans, last_event: None }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut retry = RETRY[0];
        loop {
            let began = Instant::now();
            let Err(error) = self.session().await;
            self.link.set_down();
            let text = error.text();
            tracing::debug!(engine = %self.link.client().endpoint(), "{text}");
            self.note_failure(&text);
            self.fleet.apply(Event::Failing(self.link.node(), text)).await;
            // Who waits for something to be read back must not wait for an engine that is away.
            while self.observations.try_recv().is_ok() {}
            if began.elapsed() > RETRY[1] {
                retry = RETRY[0];
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY[1]);
        }
    }

    fn note_failure(&self, text: &str) {
        let snapshot = self.fleet.snapshot();
        let Some(node) = snapshot.node(self.link.node()) else { return };
        if node.health == Health::Healthy || node.error.as_deref() != Some(text) {
            tracing::warn!("{} does not answer: {text}", node.name);
        }
    }

    async fn session(&mut self) -> Result<Infallible, Error> {
        let node = self.link.node();
        let mut reader =
            Reader { client: self.link.client().clone(), node, version: API_NEWEST, naming: self.fleet.naming() };
        // Boxed, here and below: what is needed once is not carried for as long as the engine is watched.
        let engine = Box::pin(reader.contact()).await?;
        let versions = Versions { oldest: engine.min_api, newest: engine.api };
        reader.version = API_NEWEST.clamp(versions.oldest, versions.newest);
        self.fleet.apply(Event::Contacted(node, Arc::new(engine))).await;

        // Subscribe, then list, then follow: nothing can fall in between.
        let mut lines = Lines::new(Box::pin(self.subscribe(&reader)).await?);
        let listing = match self.known() {
            Some(node) => Box::pin(reader.listing(&node)).await?,
            None => return Err(gone(&reader)),
        };
        self.fleet.apply(Event::Listed(node, Box::new(listing))).await;
        self.link.note_heard();
        self.link.set_up(versions);
        if let Some(node) = self.known() {
            tracing::info!("{} is healthy: {} containers", node.name, node.containers.len());
        }

        let mut session = Session::new(&self.fleet, &self.link, &self.orphans, reader);
        session.told = self.last_event;
        session.want(Job::Details, None);
        // The first time sooner on some, so that not all of them are listed at once for ever after.
        let between = spaced(&self.fleet, RELIST, SPACING[1]);
        let mut relist = Instant::now() + between / 2 + between / 2 * (node.0 % 64) / 64;
        loop {
            let silence = self.fleet.next_beat(self.link.heard() + spaced(&self.fleet, SILENCE, SPACING[0]), BEAT);
            let again = session.again.0;
            tokio::select! {
                line = lines.next() => {
                    self.link.note_heard();
                    match line.map_err(|error| session.broken(error))? {
                        Some(line) => session.event(&line, &mut self.last_event),
                        None => return Err(session.broken("its stream of events ended".into())),
                    }
                }
                Some(observation) = self.observations.recv() => session.observe(observation),
                Some((job, result)) = session.running.next() => session.done(job, result),
                () = tokio::time::sleep_until(relist) => {
                    session.want(Job::Everything, None);
                    relist = Instant::now() + spaced(&self.fleet, RELIST, SPACING[1]);
                }
                () = tokio::time::sleep_until(silence) => {
                    Box::pin(session.probe()).await?;
                }
                () = tokio::time::sleep_until(again), if !session.failed.is_empty() => session.try_again(),
                () = self.link.doubted() => {
                    if self.link.heard().elapsed() > PROBE_WITHIN[0] {
                        Box::pin(session.probe()).await?;
                    }
                }
            }
        }
    }

    fn known(&self) -> Option<Arc<Node>> {
        self.fleet.snapshot().node(self.link.node()).cloned()
    }

    async fn subscribe(&self, reader: &Reader) -> Result<Incoming, Error> {
        let since = self.last_event.map_or_else(String::new, |time| format!("?since={time}"));
        let path = format!("/v{}/events{since}", reader.version);
        let request = reader.client.request(http::Method::GET, &path, wharf_engine::empty())?;
        let late = |_| EngineError::Late { endpoint: reader.client.endpoint().clone(), after: RETRY[1] };
        let response = tokio::time::timeout(RETRY[1], reader.client.send(request)).await.map_err(late)??;
        let status = response.status();
        if !status.is_success() {
            return Err(EngineError::Refused { status, message: format!("no events: {status}") }.into());
        }
        Ok(response.into_body())
    }
}

// === impl Session ===

impl<'a> Session<'a> {
    fn new(fleet: &'a Fleet, link: &'a Link, orphans: &'a Orphans, reader: Reader) -> Self {
        Self {
            fleet,
            link,
            orphans,
            pulse: reader.client.pulse(),
            reader,
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            running: FuturesUnordered::new(),
            failed: BTreeMap::new(),
            again: (Instant::now(), AGAIN[0]),
            told: None,
        }
    }

    /// Follows an event: tells the subscribers, and has what it touches read again.
    fn event(&mut self, line: &[u8], last: &mut Option<Timestamp>) {
        let event = match wire::event(line) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(engine = %self.reader.client.endpoint(), "an event cannot be read: {error}");
                return;
            }
        };
        *last = (*last).max(Some(event.time));
        if event.is_of_agent() {
            return;
        }
        for touched in event.touches() {
            self.want_touched(touched, None);
        }
        // After a reconnection the engine sends the last one again.
        if self.told.is_none_or(|told| event.time > told)
            && let snapshot = self.fleet.snapshot()
            && let Some(node) = snapshot.node(self.link.node())
            && let Some(event) = of_fleet(event, node, &snapshot)
        {
            self.fleet.hub().publish(NodeEvent { node: Some(Arc::clone(node)), event });
        }
    }

    /// Somebody waits until a thing is known as it is now.
    fn observe(&mut self, observation: Observation) {
        if let (true, Touched::Container(id)) = (observation.new, observation.touched) {
            if self.fleet.snapshot().container(id).is_some() {
                // Whoever waited may have gone away.
                observation.done.send(()).ok();
                return;
            }
            if let Some(pending) = self.pending.get_mut(&Job::Container(id)) {
                pending.waiting.push(observation.done);
                return;
            }
        }
        self.want_touched(observation.touched, Some(observation.done));
    }

    fn want_touched(&mut self, touched: Touched, waiter: Option<oneshot::Sender<()>>) {
        match touched {
            Touched::Container(id) => self.want(Job::Container(id), waiter),
            Touched::Containers => self.want(Job::Everything, waiter),
            Touched::Images => self.want(Job::Images, waiter),
            Touched::Networks => self.want(Job::Networks, waiter),
            Touched::Volumes => self.want(Job::Volumes, waiter),
        }
    }

    /// Has a thing read; if it is being read just now, again afterwards.
    fn want(&mut self, job: Job, waiting: impl IntoIterator<Item = oneshot::Sender<()>>) {
        let pending = self.pending.entry(job).or_insert_with(|| {
            self.queue.push_back(job);
            Pending::default()
        });
        if pending.running {
            pending.again = true;
            pending.waiting_again.extend(waiting);
        } else {
            pending.waiting.extend(waiting);
        }
        self.start();
    }

    fn start(&mut self) {
        while self.running.len() < READS {
            let Some(job) = self.queue.pop_front() else { return };
            if let Some(pending) = self.pending.get_mut(&job) {
                pending.running = true;
            }
            let run = read(job, self.reader.clone(), self.fleet.clone(), self.orphans.clone());
            self.running.push(Box::pin(async move { (job, run.await) }));
        }
    }

    fn done(&mut self, job: Job, result: Result<Vec<Job>, Error>) {
        let mut pending = self.pending.remove(&job).unwrap_or_default();
        match result {
            Ok(found) => {
                self.link.note_heard();
                found.into_iter().for_each(|job| self.want(job, None));
                pending.waiting.extend(self.failed.remove(&job).into_iter().flatten());
                for waiter in pending.waiting {
                    // Whoever waited may have gone away.
                    waiter.send(()).ok();
                }
                if self.failed.is_empty() {
                    self.again.1 = AGAIN[0];
                }
            }
            Err(error) => {
                tracing::warn!(engine = %self.reader.client.endpoint(), ?job, "cannot be read: {}", error.text());
                if self.failed.is_empty() {
                    self.again.0 = Instant::now() + self.again.1;
                }
                self.failed.entry(job).or_default().extend(pending.waiting);
            }
        }
        if pending.again {
            self.want(job, pending.waiting_again);
        }
        self.start();
    }

    /// Has everything read again that could not be read.
    fn try_again(&mut self) {
        for (job, waiting) in std::mem::take(&mut self.failed) {
            self.want(job, waiting);
        }
        self.again.1 = (self.again.1 * 2).min(AGAIN[1]);
    }

    /// Asks the engine whether it is there.
    async fn probe(&mut self) -> Result<(), Error> {
        self.ask().await?;
        if spaced(self.fleet, SILENCE, SPACING[0]) > KEEP {
            self.pulse.rest();
        }
        self.link.set_suspect(false);
        self.link.note_heard();
        Ok(())
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let mut first = Box::pin(self.pulse.beat());
        let answer = tokio::time::timeout(PROBE_WITHIN[0], &mut first).await;
        if matches!(answer, Ok(Ok(()))) {
            return Ok(());
        }
        self.link.set_suspect(true);
        let mut second = self.reader.client.pulse();
        let again = async {
            match answer {
                Ok(_) => second.beat().await,
                // A late answer is as good as one on a new connection: the first may have got lost, or the engine is busy.
                Err(_) => select_ok([first, Box::pin(second.beat())]).await.map(drop),
            }
        };
        let late = |_| EngineError::Late { endpoint: self.reader.client.endpoint().clone(), after: PROBE_WITHIN[1] };
        Ok(tokio::time::timeout(PROBE_WITHIN[1], again).await.map_err(late)??)
    }

    fn broken(&self, source: wharf_engine::BodyError) -> Error {
        let endpoint = self.reader.client.endpoint().clone();
        EngineError::Unreachable { endpoint, unsent: true, source }.into()
    }
}

/// At least so long, and so much for each node of the fleet.
fn spaced(fleet: &Fleet, least: Duration, each: Duration) -> Duration {
    let nodes = u32::try_from(fleet.snapshot().node_count()).unwrap_or(u32::MAX);
    least.max(each.saturating_mul(nodes))
}

fn gone(reader: &Reader) -> Error {
    let endpoint = reader.client.endpoint().clone();
    EngineError::Unreachable { endpoint, unsent: true, source: "it has left the fleet".into() }.into()
}
