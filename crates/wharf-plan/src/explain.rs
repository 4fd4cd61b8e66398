use std::{collections::BTreeMap, fmt};

use wharf_model::{ApiVersion, ByteSize, Cpus, Health, PublishedPort};

use crate::Placement;

/// Why a node cannot take a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It does not answer.
    Unhealthy(&'static str),
    /// What its containers reserve is not known yet: its engine was reached a moment ago.
    Unread,
    /// A create has failed there just now.
    Excluded,
    /// It has too little memory left.
    Memory {
        /// What is asked for.
        asked: ByteSize,
        /// What is left.
        free: ByteSize,
    },
    /// It has too little processor time left.
    Cpus {
        /// What is asked for.
        asked: Cpus,
        /// What is left.
        free: Cpus,
    },
    /// Every port of a range is taken.
    Ports {
        /// The first, as a number.
        first: u16,
        /// The last, as `8010/tcp`.
        last: String,
    },
    /// A port of the host is taken.
    Port {
        /// Which, as `80/tcp`.
        port: String,
        /// By what container; `None` by one that is being created.
        by: Option<Box<str>>,
    },
    /// Something that the container depends on is elsewhere.
    Elsewhere {
        /// What.
        what: String,
        /// Where.
        names: Vec<Box<str>>,
    },
    /// It has as many containers as its `containerslots` label allows.
    Slots(usize),
    /// It runs other images.
    Platform {
        /// What is asked for.
        asked: String,
        /// What it is.
        has: String,
    },
    /// Its engine is too old for something that is asked for.
    Api {
        /// What.
        what: &'static str,
        /// The oldest API that has it.
        needs: ApiVersion,
        /// What the engine speaks.
        has: ApiVersion,
    },
    /// It cannot join a fleet network: its agent is not there, or not yet.
    NoAgent {
        /// The network.
        network: Box<str>,
    },
    /// It is not among the only nodes that are allowed.
    NotListed(Vec<Box<str>>),
    /// What is asked of its containers or images is not so.
    Affinity(String),
    /// An expression does not hold.
    Constraint {
        /// Which.
        expression: String,
        /// What the node has instead; `None` if it has no such label.
        has: Option<Box<str>>,
    },
}

/// A node that cannot take a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its name.
    pub node: Box<str>,
    /// The rule that it fails.
    pub filter: &'static str,
    /// Why.
    pub reason: Reason,
}

/// No node can take a container; why not, node by node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unplaceable {
    /// Every node and why it cannot.
    pub rejected: Vec<Rejection>,
}

impl Unplaceable {
    /// Whether it may be otherwise in a moment: some node is still being read, or getting its
    /// agent.
    pub fn is_passing(&self) -> bool {
        self.rejected.iter().any(|rejection| matches!(rejection.reason, Reason::Unread | Reason::NoAgent { .. }))
    }
}

/// Nodes named in one line; the others are counted.
const NAMED: usize = 5;

/// Lines; there are few reasons, however many nodes there are.
const LINES: usize = 8;

impl Reason {
    pub(crate) fn unhealthy(health: Health) -> Self {
        Self::Unhealthy(match health {
            Health::Pending => "has not been reached yet",
            _ => "does not answer",
        })
    }

    pub(crate) fn port(port: &PublishedPort, by: Option<&str>) -> Self {
        let address = port.address.map_or_else(String::new, |address| format!("{address}:"));
        let number = port.host.unwrap_or_default();
        Self::Port { port: format!("{address}{number}/{}", port.transport.name()), by: by.map(Into::into) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unhealthy(how) => f.write_str(how),
            Self::Unread => f.write_str("is still being read: what its containers reserve is not known yet"),
            Self::Excluded => f.write_str("failed to create it just now"),
            Self::Memory { asked, free } => write!(f, "lacks memory: {asked} asked for, {free} free"),
            Self::Cpus { asked, free } => write!(f, "lacks CPUs: {asked} asked for, {free} free"),
            Self::Port { port, by: Some(by) } => write!(f, "port {port} is taken by {by}"),
            Self::Port { port, by: None } => write!(f, "port {port} is taken by a container that is being created"),
            Self::Ports { first, last } => write!(f, "all ports of {first}-{last} are taken"),
            Self::Elsewhere { what, names } if names.is_empty() => write!(f, "{what} is on no node that is known"),
            Self::Elsewhere { what, names } => write!(f, "{what} is on {}", names.join(", ")),
            Self::Slots(slots) => {
                write!(f, "no available container slots: it has {slots} containers, and containerslots={slots}")
            }
            Self::Platform { asked, has } => write!(f, "runs {has} images, and this is {asked}"),
            Self::Api { what, needs, has } => write!(f, "{what} needs API {needs}, and its engine speaks {has}"),
            Self::NoAgent { network } => {
                write!(f, "network {network} spans the fleet, and no agent of Wharf answers here to join it")
            }
            Self::NotListed(names) => write!(f, "whitelist node=={} leaves it out", names.join("|")),
            Self::Affinity(expression) => write!(f, "affinity {expression} fails"),
            Self::Constraint { expression, has: Some(has) } => write!(f, "constraint {expression} fails: it is {has}"),
            Self::Constraint { expression, has: None } => write!(f, "constraint {expression} fails: it has none"),
        }
    }
}

impl fmt::Display for Placement {
    /// One line on what was chosen from, and one per reason why a node was not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.fitting + self.rejected.len();
        write!(f, "{}, {} of {all} nodes fit", self.strategy.name(), self.fitting)?;
        if self.score.wishes > 0 {
            write!(f, ", {} of its wishes hold here", self.score.wishes)?;
        }
        if self.score.company {
            f.write_str(", its project is here")?;
        }
        by_reason(&self.rejected, f)
    }
}

impl fmt::Display for Unplaceable {
    /// The predecessor's first line, then the nodes by reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rejected.is_empty() {
            return f.write_str("No healthy node available in the cluster: no node is known yet");
        }
        f.write_str("Unable to find a node that satisfies the following conditions")?;
        by_reason(&self.rejected, f)
    }
}

/// A line for every reason, the commonest first, with the nodes that it is of.
fn by_reason(rejected: &[Rejection], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for rejection in rejected {
        groups.entry(rejection.reason.to_string()).or_default().push(&rejection.node);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    for (reason, nodes) in groups.iter().take(LINES) {
        let named = nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        match nodes.len().saturating_sub(NAMED) {
            0 => write!(f, "\n  {named}: {reason}")?,
            more => write!(f, "\n  {named} and {more} more: {reason}")?,
        }
    }
    match groups.len().saturating_sub(LINES) {
        0 => Ok(()),
        more => write!(f, "\n  and {more} more reasons on other nodes"),
    }
}
