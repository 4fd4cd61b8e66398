use wharf_model::Resources;

use crate::filter::Candidate;

/// How one of several good nodes is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The node with the most room.
    Spread,
    /// The node with the least room that is still enough.
    Binpack,
    /// Any.
    Random,
}

/// Every strategy and its name.
const STRATEGIES: [(&str, Strategy); 3] =
    [("spread", Strategy::Spread), ("binpack", Strategy::Binpack), ("random", Strategy::Random)];

impl Strategy {
    /// The names that [`Strategy::parse`] takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        STRATEGIES.iter().map(|(name, _)| *name)
    }

    /// The strategy of that name; `binpacking` is the predecessor's other name of `binpack`.
    pub fn parse(name: &str) -> Option<Self> {
        let name = if name == "binpacking" { "binpack" } else { name };
        STRATEGIES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        STRATEGIES.iter().find(|(_, strategy)| *strategy == self).map_or("", |(name, _)| name)
    }

    /// The higher, the better. `dice` breaks ties.
    pub(crate) fn rank(self, candidate: &Candidate<'_>, dice: u64) -> (u64, usize, u64) {
        let (load, count) = (load(candidate), candidate.count);
        match self {
            Self::Spread => (u64::MAX - load, usize::MAX - count, dice),
            Self::Binpack => (load, count, dice),
            Self::Random => (0, 0, dice),
        }
    }
}

/// How full a node is: the reserved shares of its memory and its processors, in millionths, added.
fn load(candidate: &Candidate<'_>) -> u64 {
    // The common case needs no look at what the engine has: of thousands of nodes, each look costs.
    if candidate.reserved == Resources::default() {
        return 0;
    }
    let Some(engine) = &candidate.node.engine else { return 0 };
    let share = |part: u64, whole: u64| {
        if part == 0 {
            return 0;
        }
        let share = u128::from(part) * 1_000_000 / u128::from(whole.max(1));
        u64::try_from(share).unwrap_or(u64::MAX / 4)
    };
    let memory = share(candidate.reserved.memory.0, engine.total.memory.0);
    memory.saturating_add(share(candidate.reserved.cpus.as_nanos(), engine.total.cpus.as_nanos()))
}
