//! Takes back what no container needs: parts and blocks of nodes that have nobody on a network any more, and parts of
//! networks that were removed while their node was away.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};
use wharf_model::{FLEET_LABEL, Network, NetworkId, Node, NodeId};

use super::Networks;

/// How soon what nobody needs is taken back.
#[derive(Debug, Clone, Copy)]
pub struct Reaping {
    /// How often is looked.
    pub look_every: Duration,
    /// A node keeps its part so long after its last container has left: the next one often comes soon.
    pub idle: Duration,
}

impl Default for Reaping {
    fn default() -> Self {
        Self { look_every: Duration::from_secs(15), idle: Duration::from_secs(120) }
    }
}

/// Looks now and then, until it is dropped.
pub(crate) async fn reap(networks: Networks, reaping: Reaping) {
    let mut look = tokio::time::interval(reaping.look_every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle: BTreeMap<(NetworkId, NodeId), Instant> = BTreeMap::new();
    loop {
        look.tick().await;
        let unused = networks.unused();
        idle.retain(|part, _| unused.contains(part));
        for part in unused {
            if idle.entry(part).or_insert_with(Instant::now).elapsed() >= reaping.idle {
                networks.give_back(part).await;
                idle.remove(&part);
            }
        }
        networks.detach_for_good().await;
        networks.remove_forgotten().await;
    }
}

impl Networks {
    async fn give_back(&self, (network, node): (NetworkId, NodeId)) {
        let turn = self.turn(network, node);
        let _turn = turn.lock().await;
        let Some(_going) = self.going(network, Some(node)) else { return };
        let snapshot = self.0.fleet.snapshot();
        let Some(owner) = snapshot.node(node) else { return };
        let given_back = async {
            self.remove_part(network, owner).await?;
            self.free_slices(network, node).await
        };
        if let Err(error) = given_back.await {
            tracing::warn!("{} keeps its part of an unused network: {error}", owner.name);
        }
    }

    /// Removes the parts of networks that no longer are.
    async fn remove_forgotten(&self) {
        let snapshot = self.0.fleet.snapshot();
        let forgotten = |node: &Arc<Node>| -> Vec<NetworkId> {
            let ours = |part: &&Arc<Network>| part.labels.get(FLEET_LABEL) == Some(&*self.0.fleet_id);
            let parts = node.networks.values().filter(ours).filter_map(|network| network.fleet);
            parts.filter(|network| snapshot.fleet_network(*network).is_none()).collect()
        };
        for node in snapshot.nodes().filter(|node| node.is_healthy()) {
            for network in forgotten(node) {
                let used = node.containers.values().any(|container| {
                    container.networks.iter().any(|attached| node.fleet_network(attached) == Some(network))
                });
                if used {
                    continue;
                }
                tracing::info!("{} has a part of a network that is no more: it is removed", node.name);
                if let Err(error) = self.remove_part(network, node).await {
                    tracing::warn!("{} keeps it: {error}", node.name);
                }
            }
        }
    }
}
