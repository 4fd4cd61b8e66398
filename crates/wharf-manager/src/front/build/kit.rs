//! What BuildKit does without saying so: older engines tell nobody of the images that it makes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use wharf_engine::wire::Touched;
use wharf_model::NodeId;

use crate::front::App;

/// Where BuildKit has been at work since the images there were last read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct BuildKits(Arc<Mutex<BTreeMap<NodeId, usize>>>);

/// A stream to a node's BuildKit, until it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    kits: BuildKits,
    node: NodeId,
}

impl BuildKits {
    /// A stream to that node's BuildKit is opened.
    pub(super) fn open(&self, node: NodeId) -> Open {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(node).or_default() += 1;
        Open { kits: self.clone(), node }
    }

    /// Has the state know the images that BuildKit has made by now. Costs nothing where it has not been used.
    pub(crate) async fn settle(&self, app: &App) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(known.keys().filter_map(|node| app.fleet.link(*node)).map(|link| async move {
            link.observe(Touched::Images).await;
        }))
        .await;
        // What had ended before the images were read has nothing more to tell.
        let ended = |node: &NodeId| known.get(node) == Some(&0);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, open| *open > 0 || !ended(node));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut kits = self.kits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = kits.get_mut(&self.node) {
            *open = open.saturating_sub(1);
        }
    }
}
