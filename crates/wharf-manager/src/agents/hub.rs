//! One task that follows the state and tells every agent what has changed for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};
use wharf_model::{ContainerId, NodeId, Snapshot};
use wharf_plan::addresses::Pool;
use wharf_protocol::{Probe, Update};

use super::view::{Changes, View};

/// Batches that may wait for an agent; one that is slower is cut off, and told everything when it is back.
pub(super) const BATCHES: usize = 256;

/// A container that is announced as about to run and does not is taken for down again after this long.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Changes that come within this time are told together.
const TOGETHER: Duration = Duration::from_millis(2);

/// What the hub is asked.
#[derive(Debug)]
pub(super) enum Message {
    /// An agent watches from now on.
    Watch(NodeId, mpsc::Sender<Vec<Update>>),
    /// A container is about to run. Answered when those whom it concerns have been sent word of it.
    Starting(ContainerId, oneshot::Sender<()>),
    /// A container does not run after all.
    NotStarting(ContainerId),
    /// An agent is to try the way to others.
    Probe(NodeId, Probe),
}

/// How far everybody is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The version of the state that all agents have been told of, as far as it concerns them.
    pub(super) followed: u64,
    /// The agents that watch.
    pub(super) agents: BTreeMap<NodeId, Told>,
}

/// How far one agent is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The last number that it was told.
    pub(super) sent: u64,
    /// The last number that its host agrees with.
    pub(super) applied: u64,
}

/// An agent that watches.
struct Watcher {
    updates: mpsc::Sender<Vec<Update>>,
    peers: BTreeSet<NodeId>,
    /// Nodes that had not been read when it was told everything; `None` before that: its own node has to be known first.
    unread: Option<BTreeSet<u32>>,
}

pub(super) struct Hub {
    snapshot: Arc<Snapshot>,
    view: View,
    watchers: BTreeMap<NodeId, Watcher>,
    starting: BTreeMap<ContainerId, Instant>,
    progress: Arc<watch::Sender<Progress>>,
    number: u64,
}

impl Hub {
    pub(super) fn new(pools: Vec<Pool>, progress: Arc<watch::Sender<Progress>>) -> Self {
        let (watchers, starting) = Default::default();
        // Numbers grow over restarts, too: an agent's report on an old one is none on a new one.
        let number = u64::try_from(crate::fleet::now().as_nanos() / 1000).unwrap_or(1);
        Self { snapshot: Arc::default(), view: View::new(pools), watchers, starting, progress, number }
    }

    /// Runs until nobody can ask it any more.
    pub(super) async fn run(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut messages: mpsc::Receiver<Message>,
    ) {
        let mut tick = tokio::time::interval(START_WITHIN / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(message) => self.message(message),
                    None => return,
                },
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(TOGETHER).await;
                    let next = Arc::clone(&snapshots.borrow_and_update());
                    self.follow(next);
                }
                _ = tick.tick() => self.expire(),
            }
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Watch(node, updates) => {
                let watcher = Watcher { updates, peers: BTreeSet::new(), unread: None };
                self.watchers.insert(node, watcher);
                self.progress.send_modify(|progress| {
                    progress.agents.insert(node, Told::default());
                });
                self.tell_all(node);
            }
            Message::Starting(id, done) => {
                self.starting.insert(id, Instant::now());
                self.restate(id);
                // Whoever starts it may have gone away.
                done.send(()).ok();
            }
            Message::NotStarting(id) => {
                if self.starting.remove(&id).is_some() {
                    self.restate(id);
                }
            }
            Message::Probe(node, probe) => self.send(node, vec![Update::Probe(probe)]),
        }
    }

    fn restate(&mut self, id: ContainerId) {
        let snapshot = Arc::clone(&self.snapshot);
        let changes = self.view.restate(id, &snapshot, self.starting.contains_key(&id));
        self.tell(changes);
    }

    fn expire(&mut self) {
        let late: Vec<_> =
            self.starting.iter().filter(|(_, since)| since.elapsed() > START_WITHIN).map(|(id, _)| *id).collect();
        for id in late {
            self.starting.remove(&id);
            self.restate(id);
        }
        let gone: Vec<_> =
            self.watchers.iter().filter(|(_, watcher)| watcher.updates.is_closed()).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|node| self.forget(node));
    }

    fn follow(&mut self, next: Arc<Snapshot>) {
        // What runs by now is starting no more.
        self.starting.retain(|id, _| next.container(*id).is_none_or(|container| !container.phase.is_up()));
        let starting = &self.starting;
        let changes = self.view.follow(&self.snapshot, &next, &|id| starting.contains_key(&id));
        self.snapshot = next;
        self.tell(changes);
        // An agent that keeps what it knew of a node is told everything once the node has been read.
        let unread = self.view.unread(&self.snapshot);
        let outdated = |watcher: &Watcher| !watcher.unread.as_ref().is_some_and(|then| then.is_subset(&unread));
        let again: Vec<_> =
            self.watchers.iter().filter(|(_, watcher)| outdated(watcher)).map(|(node, _)| *node).collect();
        again.into_iter().for_each(|node| self.tell_all(node));
        let followed = self.snapshot.version;
        self.progress.send_modify(|progress| progress.followed = followed);
    }

    fn tell_all(&mut self, node: NodeId) {
        let Some(watcher) = self.watchers.get_mut(&node) else { return };
        if self.view.about_me(node).is_none() {
            return;
        }
        watcher.peers = self.view.peers_of(node);
        let mut updates = self.view.all(node, &watcher.peers);
        let unread = self.view.unread(&self.snapshot);
        if !unread.is_empty() {
            updates.push(Update::Unread(unread.clone()));
        }
        watcher.unread = Some(unread);
        self.synced(node, updates);
    }

    fn tell(&mut self, changes: Changes) {
        let mut updates: BTreeMap<NodeId, Vec<Update>> = BTreeMap::new();
        for (network, before) in &changes.networks {
            let now = self.view.nodes_of(*network);
            for node in before.union(&now).filter(|node| self.is_told(**node)) {
                updates.entry(*node).or_default().push(self.view.about_network(*network, *node));
            }
        }
        let moved: Vec<_> = updates.keys().copied().collect();
        for node in moved {
            let peers = self.view.peers_of(node);
            let Some(watcher) = self.watchers.get_mut(&node) else { continue };
            let told = updates.entry(node).or_default();
            told.extend(watcher.peers.difference(&peers).map(|peer| Update::PeerGone(peer.0)));
            told.extend(peers.difference(&watcher.peers).map(|peer| self.view.about_peer(*peer)));
            watcher.peers = peers;
        }
        for node in &changes.nodes {
            for (other, watcher) in &self.watchers {
                if watcher.unread.is_some() && watcher.peers.contains(node) {
                    updates.entry(*other).or_default().push(self.view.about_peer(*node));
                }
            }
            if self.is_told(*node) {
                updates.entry(*node).or_default().extend(self.view.about_me(*node));
            }
        }
        for (container, audience) in &changes.containers {
            for node in audience.iter().filter(|node| self.is_told(**node)) {
                updates.entry(*node).or_default().push(self.view.about_container(*container, *node));
            }
        }
        for (node, updates) in updates {
            self.synced(node, updates);
        }
    }

    /// Whether an agent watches that has been told everything up to now.
    fn is_told(&self, node: NodeId) -> bool {
        self.watchers.get(&node).is_some_and(|watcher| watcher.unread.is_some())
    }

    fn synced(&mut self, node: NodeId, mut updates: Vec<Update>) {
        if updates.is_empty() {
            return;
        }
        self.number += 1;
        let number = self.number;
        updates.push(Update::Synced(number));
        self.progress.send_modify(|progress| {
            if let Some(told) = progress.agents.get_mut(&node) {
                told.sent = number;
            }
        });
        self.send(node, updates);
    }

    fn send(&mut self, node: NodeId, updates: Vec<Update>) {
        if self.watchers.get(&node).is_some_and(|watcher| watcher.updates.try_send(updates).is_err()) {
            self.forget(node);
        }
    }

    fn forget(&mut self, node: NodeId) {
        self.watchers.remove(&node);
        self.progress.send_modify(|progress| {
            progress.agents.remove(&node);
        });
    }
}
