//! The one task that writes the state, and the handle that everybody else has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::Instant,
};
use wharf_model::{
    Agent, ContainerId, Endpoint, FleetNetwork, NetworkId, NodeId, Reservation, ReservationId, Snapshot, Timestamp,
};
use wharf_plan::{Placement, Policy};

use super::{
    Link,
    events::Hub,
    labels::{Labelled, NodeLabels},
    link::SuspectCount,
    state::{Event, Place, Refusal, State},
};
use crate::Naming;

/// Messages that may wait for the writer; who sends one more waits.
const QUEUE: usize = 4096;

/// Messages that are taken in before the next snapshot is published.
const BATCH: usize = 1024;

/// Engines whose containers are looked into at once after they were listed, a few containers of each.
const DETAILS: usize = 24;

/// A container that asks for resources or ports waits this long for nodes that are still being read.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// What the writer is asked.
#[derive(Debug)]
enum Message {
    Apply(Event, oneshot::Sender<()>),
    Place(Box<Place>, oneshot::Sender<Result<(Promise, Placement), Refusal>>),
    Claim(Box<str>, oneshot::Sender<Result<Promise, Refusal>>),
    Release(ReservationId),
}

/// The ways to all nodes.
type Links = Arc<BTreeMap<NodeId, Arc<Link>>>;

/// Reads the state, and asks its writer to change it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    messages: mpsc::Sender<Message>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    links: Arc<watch::Sender<Links>>,
    suspect_count: SuspectCount,
    hub: Hub,
    details: Arc<Semaphore>,
    began: Instant,
    naming: Naming,
    policy: Arc<Policy>,
}

/// A promise that holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Promise {
    id: ReservationId,
    reservation: Option<Reservation>,
    messages: mpsc::Sender<Message>,
}

/// The time by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

// === impl Fleet ===

impl Fleet {
    /// Starts the writer. It ends with the last clone of the handle.
    pub(crate) fn start(policy: Policy, naming: Naming, labels: Labelled) -> Self {
        let (messages, inbox) = mpsc::channel(QUEUE);
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let kept = Arc::new(policy.clone());
        tokio::spawn(write(State::new(policy, labels), inbox, messages.downgrade(), publish));
        Self {
            messages,
            snapshots,
            links: Arc::new(watch::channel(Arc::default()).0),
            suspect_count: SuspectCount::default(),
            hub: Hub::new(),
            details: Arc::new(Semaphore::new(DETAILS)),
            began: Instant::now(),
            naming,
            policy: kept,
        }
    }

    /// How containers are listed.
    pub(super) fn naming(&self) -> Naming {
        self.naming
    }

    /// How places are chosen just now.
    pub(crate) fn policy(&self) -> Policy {
        Policy { suspects: self.suspects(), ..Policy::clone(&self.policy) }
    }

    /// Gives a node's endpoint these labels.
    pub(crate) async fn label(&self, endpoint: Endpoint, labels: NodeLabels) {
        self.apply(Event::Labelled(endpoint, labels)).await;
    }

    /// Puts a fleet network in the state; every new snapshot knows it when this returns.
    pub(crate) async fn put_network(&self, network: Arc<FleetNetwork>) {
        self.apply(Event::FleetNetwork(network)).await;
    }

    /// Takes a fleet network out of the state.
    pub(crate) async fn drop_network(&self, id: NetworkId) {
        self.apply(Event::FleetNetworkGone(id)).await;
    }

    /// Takes a container off a fleet network in the state, while its node cannot be told; or forgets that.
    pub(crate) async fn set_detached(&self, container: ContainerId, network: NetworkId, is: bool) {
        self.apply(Event::Detached(container, network, is)).await;
    }

    /// Puts what a node's agent says in the state.
    pub(crate) async fn put_agent(&self, node: NodeId, agent: Agent) {
        self.apply(Event::Agent(node, Arc::new(agent))).await;
    }

    /// All that will be known.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// What is known now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Waits until the snapshot fulfils a condition.
    pub(crate) async fn wait_for(&self, condition: impl FnMut(&Arc<Snapshot>) -> bool) {
        let mut snapshots = self.snapshots.clone();
        // It ends with an error only when the writer has ended: there is nothing left to wait for.
        drop(snapshots.wait_for(condition).await);
    }

    /// The live stream of the engines' events.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Turns at looking into containers that have only been listed: the whole fleet's together, so that a start among
    /// thousands of engines leaves room for what clients ask meanwhile.
    pub(super) fn details(&self) -> &Semaphore {
        &self.details
    }

    /// The first of the fleet's common beats that is not before `at`.
    pub(super) fn next_beat(&self, at: Instant, beat: Duration) -> Instant {
        let since = at.saturating_duration_since(self.began).as_nanos();
        let beats = since.div_ceil(beat.as_nanos().max(1));
        self.began + beat.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX))
    }

    /// The way to a node's engine.
    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links.borrow().get(&node).cloned()
    }

    /// Adds or takes away the ways to nodes.
    pub(super) fn change_links(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Arc<Link>>)) {
        self.links.send_modify(|links| change(Arc::make_mut(links)));
    }

    /// What counts the engines that are slow to answer.
    pub(super) fn suspect_count(&self) -> SuspectCount {
        self.suspect_count.clone()
    }

    /// Nodes that are slow to answer just now.
    fn suspects(&self) -> BTreeSet<NodeId> {
        if self.suspect_count.is_zero() {
            return BTreeSet::new();
        }
        self.links.borrow().iter().filter(|(_, link)| link.is_suspect()).map(|(id, _)| *id).collect()
    }

    /// Whether a healthy node beside these answers as fast as ever.
    pub(crate) fn has_other(&self, than: impl Fn(NodeId) -> bool) -> bool {
        let links = self.links.borrow().clone();
        self.snapshot().nodes().any(|node| {
            node.is_healthy() && !than(node.id) && links.get(&node.id).is_some_and(|link| !link.is_suspect())
        })
    }

    /// Takes in what happened; when this returns, every new snapshot knows of it.
    pub(super) async fn apply(&self, event: Event) {
        let (done, wait) = oneshot::channel();
        if self.messages.send(Message::Apply(event, done)).await.is_ok() {
            drop(wait.await);
        }
    }

    /// Chooses a node and promises name and place.
    pub(crate) async fn place(&self, workload: wharf_plan::Workload) -> Result<(Promise, Placement), crate::Error> {
        let deadline = Instant::now() + READ_WITHIN;
        loop {
            let version = self.snapshot().version;
            let place = Place { workload: workload.clone(), suspects: self.suspects() };
            let (answer, wait) = oneshot::channel();
            match self.ask(Message::Place(Box::new(place), answer), wait).await? {
                Err(Refusal::Unplaceable(refusal)) if refusal.is_passing() && Instant::now() < deadline => {
                    let changed = self.wait_for(|snapshot| snapshot.version > version);
                    tokio::time::timeout_at(deadline, changed).await.ok();
                }
                placed => return Ok(placed?),
            }
        }
    }

    /// Promises a name.
    pub(crate) async fn claim(&self, name: &str) -> Result<Promise, crate::Error> {
        let (answer, wait) = oneshot::channel();
        Ok(self.ask(Message::Claim(name.into(), answer), wait).await??)
    }

    async fn ask<T>(&self, message: Message, wait: oneshot::Receiver<T>) -> Result<T, crate::Error> {
        let stopped = || crate::Error::unavailable("the manager is shutting down");
        self.messages.send(message).await.map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())
    }
}

impl From<Refusal> for crate::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Docker's words, so that scripts that look for them find them.
            Refusal::NameTaken { name, by } => {
                let by = by.map_or_else(|| "that is being created".to_owned(), |id| format!("{:?}", id.to_string()));
                Self::conflict(format!(
                    "Conflict. The container name \"/{name}\" is already in use by container {by}. You have to remove \
                     (or rename) that container to be able to reuse that name."
                ))
            }
            Refusal::Unplaceable(unplaceable) => Self::conflict(unplaceable.to_string()),
        }
    }
}

// === impl Promise ===

impl Promise {
    /// The node that was chosen; `None` for a promised name alone.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.reservation.as_ref().and_then(|reservation| reservation.node)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let message = Message::Release(self.id);
        if let Err(mpsc::error::TrySendError::Full(message)) = self.messages.try_send(message) {
            let messages = self.messages.clone();
            tokio::spawn(async move { messages.send(message).await });
        }
    }
}

// === the writer ===

async fn write(
    mut state: State,
    mut inbox: mpsc::Receiver<Message>,
    messages: mpsc::WeakSender<Message>,
    publish: watch::Sender<Arc<Snapshot>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut answers: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let now = now();
        let Some(messages) = messages.upgrade() else { return };
        for message in batch.drain(..) {
            match message {
                Message::Apply(event, done) => {
                    state.apply(event, now);
                    answers.push(Box::new(move || {
                        // Whoever waited may have gone away.
                        done.send(()).ok();
                    }));
                }
                Message::Place(place, answer) => {
                    let promised = state.place(&place).map(|(reservation, placement)| {
                        let promise =
                            Promise { id: reservation.id, reservation: Some(reservation), messages: messages.clone() };
                        (promise, placement)
                    });
                    answers.push(Box::new(move || drop(answer.send(promised))));
                }
                Message::Claim(name, answer) => {
                    let promised =
                        state.claim(name).map(|id| Promise { id, reservation: None, messages: messages.clone() });
                    answers.push(Box::new(move || drop(answer.send(promised))));
                }
                Message::Release(id) => state.apply(Event::Released(id), now),
            }
        }
        publish.send_replace(Arc::new(state.snapshot.clone()));
        answers.drain(..).for_each(|answer| answer());
    }
}
