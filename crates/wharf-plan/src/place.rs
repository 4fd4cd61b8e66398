use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use wharf_model::{ByteSize, Cpus, Node, NodeId, Reservation, Resources, Snapshot};

use crate::{
    Reason, Rejection, Strategy, Unplaceable, Workload,
    filter::{Candidate, check, has_company, wishes},
};

/// How places are chosen.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which of several good nodes.
    pub strategy: Strategy,
    /// By how much of what they have nodes may be overbooked, in per mille; below 0, how much of it stays free.
    pub overcommit: i32,
    /// Nodes that are slow to answer just now: taken only if no other will do.
    pub suspects: BTreeSet<NodeId>,
    /// The rules, by name, that are not kept.
    pub without: Vec<&'static str>,
}

/// Decides between equals: the same seed decides the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// A chosen node, and why not the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// How it was chosen.
    pub strategy: Strategy,
    /// What spoke for it.
    pub score: Score,
    /// How many nodes would have done.
    pub fitting: usize,
    /// The nodes that were none.
    pub rejected: Vec<Rejection>,
}

impl Policy {
    /// The predecessor's overcommit: 5 %.
    const OVERCOMMIT: i32 = 50;

    /// A policy of that strategy, with the usual overcommit.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, overcommit: Self::OVERCOMMIT, suspects: BTreeSet::new(), without: Vec::new() }
    }

    /// What may be reserved of what a node has.
    pub(crate) fn with_overcommit(&self, total: Resources) -> Resources {
        let more = |amount: u64| {
            let more = u128::from(amount) * u128::from((1000 + self.overcommit).max(0).unsigned_abs()) / 1000;
            u64::try_from(more).unwrap_or(u64::MAX)
        };
        Resources { cpus: Cpus::from_nanos(more(total.cpus.as_nanos())), memory: ByteSize(more(total.memory.0)) }
    }
}

/// What speaks for a node that may have a container; the greater, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Whether it answers as fast as ever.
    pub prompt: bool,
    /// How many of the wishes that may fail hold there.
    pub wishes: usize,
    /// Whether it has containers of the same Compose project.
    pub company: bool,
    /// What the strategy makes of its load, of how many containers it has, and of chance.
    pub strategy: (u64, usize, u64),
}

/// What is to be said of a node and a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The node.
    pub node: NodeId,
    /// How well it would do; or the rule that it fails, and why.
    pub outcome: Result<Score, (&'static str, Reason)>,
}

/// What is to be said of every node and a container that wants a place.
pub fn judge(want: &Workload, fleet: &Snapshot, policy: &Policy, seed: Seed) -> impl Iterator<Item = Verdict> {
    let mut promised: Vec<(NodeId, &Reservation)> =
        fleet.reservations().filter_map(|reservation| Some((reservation.node?, &**reservation))).collect();
    promised.sort_by_key(|(node, _)| *node);
    // Nodes come in the order of their numbers, too.
    let mut promised = promised.into_iter().peekable();
    let chance = chance(seed, want);
    let nodes: Vec<&Node> = fleet.nodes().map(AsRef::as_ref).collect();
    (0..nodes.len()).map(move |number| {
        if number % AHEAD == 0 {
            fetch(&nodes[number..nodes.len().min(number + AHEAD)]);
        }
        let node = nodes[number];
        let mut of_node = Vec::new();
        while let Some((_, reservation)) = promised.next_if(|(of, _)| *of <= node.id) {
            of_node.push(reservation);
        }
        let candidate = candidate(node, of_node);
        let score = || Score {
            prompt: !policy.suspects.contains(&node.id),
            wishes: wishes(want, &candidate),
            company: has_company(want, &candidate),
            strategy: policy.strategy.rank(&candidate, dice(chance, node.id)),
        };
        Verdict { node: node.id, outcome: check(want, &candidate, policy).map(|()| score()) }
    })
}

/// Nodes that are fetched from memory together. They lie scattered in it: to wait for one after the other was half of the work
/// where there are a thousand.
const AHEAD: usize = 64;

/// Has the processor fetch what is asked of every node, by a look at each: looks do not wait for each other.
fn fetch(nodes: &[&Node]) {
    for node in nodes {
        let load = node.load();
        std::hint::black_box((
            node.health,
            node.slots(),
            node.containers.len(),
            load.count,
            load.reserved,
            load.unread,
        ));
    }
}

/// Chooses a node for a container.
///
/// # Errors
/// [`Unplaceable`], with the reason of every node, if none will do.
pub fn place(want: &Workload, fleet: &Snapshot, policy: &Policy, seed: Seed) -> Result<Placement, Unplaceable> {
    let (mut rejected, mut best, mut fitting) = (Vec::new(), None, 0);
    for Verdict { node, outcome } in judge(want, fleet, policy, seed) {
        match outcome {
            Ok(score) => {
                fitting += 1;
                if best.is_none_or(|(known, _)| score > known) {
                    best = Some((score, node));
                }
            }
            Err((filter, reason)) => {
                let name = fleet.node(node).map_or("", |node| &*node.name);
                rejected.push(Rejection { node: name.into(), filter, reason });
            }
        }
    }
    match best {
        Some((score, node)) => Ok(Placement { node, strategy: policy.strategy, score, fitting, rejected }),
        None => Err(Unplaceable { rejected }),
    }
}

fn candidate<'a>(node: &'a Node, promised: Vec<&'a Reservation>) -> Candidate<'a> {
    let mut reserved = node.load().reserved;
    promised.iter().for_each(|promise| reserved += promise.resources);
    Candidate { node, reserved, count: node.load().count + promised.len(), promised }
}

/// What a container's dice begin with.
fn chance(seed: Seed, want: &Workload) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed.0, &want.name, &want.image).hash(&mut hasher);
    hasher.finish()
}

/// A number for each node: the finaliser of `SplitMix64`, which takes a nanosecond where a hash takes thirty.
fn dice(chance: u64, node: NodeId) -> u64 {
    let mixed = chance ^ u64::from(node.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests;
