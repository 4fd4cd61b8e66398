use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use wharf_model::{ByteSize, Cpus, NodeId, Reservation, Resources, Snapshot};

use crate::{
    Rejection, Strategy, Unplaceable, Workload,
    filter::{Candidate, check, has_company, wishes},
};

/// How places are chosen.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which of several good nodes.
    pub strategy: Strategy,
    /// By how much of what they have nodes may be overbooked, in per mille.
    pub overcommit: u32,
    /// Nodes that are slow to answer just now: taken only if no other will do.
    pub suspects: BTreeSet<NodeId>,
}

/// Decides between equals: the same seed decides the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// A chosen node, and why not the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// The nodes that were none.
    pub rejected: Vec<Rejection>,
}

impl Policy {
    /// The predecessor's overcommit: 5 %.
    const OVERCOMMIT: u32 = 50;

    /// A policy of that strategy, with the usual overcommit.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, overcommit: Self::OVERCOMMIT, suspects: BTreeSet::new() }
    }

    /// What may be reserved of what a node has.
    pub(crate) fn with_overcommit(&self, total: Resources) -> Resources {
        let more = |amount: u64| {
            let more = u128::from(amount) * u128::from(1000 + self.overcommit) / 1000;
            u64::try_from(more).unwrap_or(u64::MAX)
        };
        Resources { cpus: Cpus::from_nanos(more(total.cpus.as_nanos())), memory: ByteSize(more(total.memory.0)) }
    }
}

/// Chooses a node for a container.
///
/// # Errors
/// [`Unplaceable`], with the reason of every node, if none will do.
pub fn place(want: &Workload, fleet: &Snapshot, policy: &Policy, seed: Seed) -> Result<Placement, Unplaceable> {
    let mut promised: BTreeMap<NodeId, Vec<&Reservation>> = BTreeMap::new();
    for reservation in fleet.reservations() {
        if let Some(node) = reservation.node {
            promised.entry(node).or_default().push(reservation);
        }
    }
    let (mut rejected, mut best) = (Vec::new(), None);
    for node in fleet.nodes() {
        let candidate = candidate(node, promised.remove(&node.id).unwrap_or_default());
        if let Err((filter, reason)) = check(want, &candidate, policy) {
            rejected.push(Rejection { node: node.name.as_ref().into(), filter, reason });
            continue;
        }
        let dice = dice(seed, want, node.id);
        let rank = (
            !policy.suspects.contains(&node.id),
            wishes(want, node),
            has_company(want, &candidate),
            policy.strategy.rank(&candidate, dice),
        );
        if best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, node.id));
        }
    }
    match best {
        Some((_, node)) => Ok(Placement { node, rejected }),
        None => Err(Unplaceable { rejected }),
    }
}

fn candidate<'a>(node: &'a wharf_model::Node, promised: Vec<&'a Reservation>) -> Candidate<'a> {
    let mut reserved = node.load().reserved;
    promised.iter().for_each(|promise| reserved += promise.resources);
    Candidate { node, reserved, count: node.load().count + promised.len(), promised }
}

fn dice(seed: Seed, want: &Workload, node: NodeId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed.0, &want.name, &want.image, node).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
