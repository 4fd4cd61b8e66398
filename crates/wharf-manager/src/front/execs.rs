//! Which node has which exec: engines give execs ids of their own, and ask for nothing else afterwards.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Method;
use wharf_model::{Node, NodeId};

use super::call::App;
use crate::{API_NEWEST, Error};

/// Execs that are remembered; older ones are looked for.
const REMEMBERED: usize = 10_000;

/// Looking an exec up is quick on an engine that is well.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Where execs are. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Execs(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    nodes: HashMap<Box<str>, NodeId>,
    order: VecDeque<Box<str>>,
}

impl Execs {
    /// An exec was made on that node.
    pub(crate) fn remember(&self, id: Box<str>, node: NodeId) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.nodes.insert(id.clone(), node).is_none() {
            memory.order.push_back(id);
        }
        if memory.order.len() > REMEMBERED
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.nodes.remove(&oldest);
        }
    }

    /// The node that has an exec. One that is not remembered (this manager may be younger than it) is looked for.
    ///
    /// # Errors
    /// [`wharf_model::Class::NotFound`] if no node that answers has it.
    pub(crate) async fn find(&self, app: &App, id: &str) -> Result<Arc<Node>, Error> {
        let unknown = || Error::not_found(format!("No such exec instance: {id}"));
        let snapshot = app.fleet.snapshot();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).nodes.get(id).copied();
        if let Some(node) = known.and_then(|node| snapshot.node(node)) {
            return Ok(Arc::clone(node));
        }
        // What is put in a path is an id and nothing else.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let mut looks: FuturesUnordered<_> = snapshot
            .nodes()
            .filter(|node| node.is_healthy())
            .filter_map(|node| Some((Arc::clone(node), app.fleet.link(node.id)?)))
            .map(|(node, link)| async move {
                let path = link.path(API_NEWEST, &format!("/exec/{id}/json"));
                link.call(Method::GET, &path, None, LOOK_WITHIN).await.ok().map(|_| node)
            })
            .collect();
        while let Some(found) = looks.next().await {
            if let Some(node) = found {
                self.remember(id.into(), node.id);
                return Ok(node);
            }
        }
        Err(unknown())
    }
}
