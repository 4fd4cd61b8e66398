//! The engines' events as one live stream.

use std::sync::Arc;

use tokio::sync::broadcast;
use wharf_model::Node;

/// Events that a subscriber may lag behind; a slower one is cut off, and told so, rather than fed with gaps.
const BACKLOG: usize = 16_384;

/// An event and where it came from.
#[derive(Debug)]
pub(crate) struct NodeEvent {
    /// The node as it was known then; `None` for what happened to the fleet as a whole.
    pub(crate) node: Option<Arc<Node>>,
    /// What happened there.
    pub(crate) event: wharf_engine::wire::Event,
}

/// Passes events from the watchers to the subscribers.
#[derive(Debug, Clone)]
pub(crate) struct Hub(broadcast::Sender<Arc<NodeEvent>>);

impl Hub {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }

    /// Tells whoever listens.
    pub(crate) fn publish(&self, event: NodeEvent) {
        // Nobody listening is fine.
        drop(self.0.send(Arc::new(event)));
    }

    /// Everything that happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<NodeEvent>> {
        self.0.subscribe()
    }
}
