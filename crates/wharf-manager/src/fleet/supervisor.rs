//! Keeps a watcher for every engine that discovery names.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{sync::mpsc, task::JoinHandle};
use wharf_engine::{Client, TlsClient};
use wharf_model::NodeId;
use wharf_store::discovery::{Change, Watch};

use super::{Fleet, Link, Orphans, link, state::Event, watcher::Watcher};
use crate::records::Records;

/// A watcher that ends when it is dropped.
struct Watched(JoinHandle<()>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows discovery until it is dropped: engines that come are watched, those that go are forgotten.
pub(crate) async fn supervise(
    fleet: Fleet,
    records: Records,
    mut discovery: Watch,
    orphans: Orphans,
    tls: Option<TlsClient>,
) {
    let mut watched: BTreeMap<NodeId, Watched> = BTreeMap::new();
    loop {
        match discovery.next().await {
            Change::Set(endpoints) => match records.numbers(&endpoints).await {
                Ok(numbered) => fleet.apply(Event::Discovered(numbered)).await,
                Err(error) => {
                    tracing::error!("discovery: new nodes cannot be given a number: {error}; those known so far stay");
                    continue;
                }
            },
            Change::Problem(error) => {
                tracing::warn!("discovery: {error}; the nodes known so far stay");
                continue;
            }
        }
        let snapshot = fleet.snapshot();
        let gone: Vec<_> = watched.keys().copied().filter(|id| snapshot.node(*id).is_none()).collect();
        for id in gone {
            watched.remove(&id);
            fleet.change_links(|links| drop(links.remove(&id)));
        }
        for node in snapshot.nodes() {
            if watched.contains_key(&node.id) {
                continue;
            }
            let (observe, observations) = mpsc::channel(link::OBSERVATIONS);
            let client = Client::with_tls(node.endpoint.clone(), tls.clone());
            let link = Arc::new(Link::new(node.id, client, observe, fleet.suspect_count()));
            fleet.change_links(|links| drop(links.insert(node.id, Arc::clone(&link))));
            let watcher = Watcher::new(fleet.clone(), link, observations, orphans.clone());
            watched.insert(node.id, Watched(tokio::spawn(watcher.run())));
        }
    }
}
