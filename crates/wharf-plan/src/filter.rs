//! The rules that a node must fulfil, one row each.

use wharf_model::{Cpus, Node, PROJECT_LABEL, Reservation, Resources};

use crate::{Expression, Policy, Reason, Workload};

/// A node, and what is promised on it already.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a Node,
    pub(crate) promised: Vec<&'a Reservation>,
    /// What its containers and the promised ones reserve.
    pub(crate) reserved: Resources,
    /// How many containers count there: those that are up or about to be, and the promised ones.
    pub(crate) count: usize,
}

/// A rule.
pub(crate) struct Filter {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&Workload, &Candidate<'_>, &Policy) -> Result<(), Reason>,
}

/// The rules, in the order in which they are told of.
pub(crate) const FILTERS: &[Filter] = &[
    Filter { name: "health", check: health },
    Filter { name: "constraint", check: constraint },
    Filter { name: "dependency", check: dependency },
    Filter { name: "port", check: port },
    Filter { name: "resources", check: resources },
];

/// The rules' names.
pub fn filter_names() -> impl Iterator<Item = &'static str> {
    FILTERS.iter().map(|filter| filter.name)
}

/// The first rule that a node fails.
pub(crate) fn check(want: &Workload, candidate: &Candidate<'_>, policy: &Policy) -> Result<(), (&'static str, Reason)> {
    FILTERS
        .iter()
        .try_for_each(|filter| (filter.check)(want, candidate, policy).map_err(|reason| (filter.name, reason)))
}

/// How many of the wishes that may fail do hold.
pub(crate) fn wishes(want: &Workload, node: &Node) -> usize {
    want.constraints.iter().filter(|expression| expression.is_soft() && holds(expression, node)).count()
}

/// Whether a node has, or is promised, one of the project that the container belongs to.
pub(crate) fn has_company(want: &Workload, candidate: &Candidate<'_>) -> bool {
    let Some(project) = want.labels.get(PROJECT_LABEL) else { return false };
    let promised = || candidate.promised.iter().any(|promise| promise.labels.get(PROJECT_LABEL) == Some(project));
    candidate.node.load().has_project(project) || promised()
}

fn health(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    if want.exclude.contains(&candidate.node.id) {
        return Err(Reason::Excluded);
    }
    if candidate.node.is_healthy() { Ok(()) } else { Err(Reason::unhealthy(candidate.node.health)) }
}

fn constraint(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let node = candidate.node;
    let fails = want.constraints.iter().find(|expression| !expression.is_soft() && !holds(expression, node));
    fails.map_or(Ok(()), |expression| {
        let has = match expression.key() {
            "node" => Some(node.name.as_ref().into()),
            key => label(node, key).map(Into::into),
        };
        Err(Reason::Constraint { expression: expression.to_string(), has })
    })
}

fn holds(expression: &Expression, node: &Node) -> bool {
    if expression.key() != "node" {
        return expression.holds(label(node, expression.key()));
    }
    let address = node.endpoint.address();
    let id = node.engine.as_ref().map(|engine| &*engine.id);
    expression.holds([&*node.name, &address].into_iter().chain(id))
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.engine.as_ref()?.labels.get(key).map(|value| &**value)
}

fn dependency(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let missing = want.requirements.iter().find(|requirement| !requirement.nodes.contains(&candidate.node.id));
    missing
        .map_or(Ok(()), |missing| Err(Reason::Elsewhere { what: missing.what.clone(), names: missing.names.clone() }))
}

fn port(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    if candidate.node.load().unread > 0 && want.ports().any(|port| port.host.is_some()) {
        return Err(Reason::Unread);
    }
    for wanted in want.ports() {
        let taking = || candidate.node.containers.values().filter(|container| container.phase.takes_room());
        let taken = |container: &&std::sync::Arc<wharf_model::Container>| {
            container.host_ports().any(|taken| wanted.clashes_with(&taken))
        };
        // Only where the number is taken at all is it worth to look on which address, and by whom.
        if candidate.node.load().takes_port(&wanted)
            && let Some(by) = taking().find(taken)
        {
            return Err(Reason::port(&wanted, Some(&by.name)));
        }
        if let Some(promise) =
            candidate.promised.iter().find(|promise| promise.published.iter().any(|taken| wanted.clashes_with(taken)))
        {
            return Err(Reason::port(&wanted, promise.name.as_deref()));
        }
    }
    Ok(())
}

fn resources(want: &Workload, candidate: &Candidate<'_>, policy: &Policy) -> Result<(), Reason> {
    let Some(engine) = &candidate.node.engine else { return Ok(()) };
    let asks = want.resources.memory.0 > 0 || want.resources.cpus > Cpus::default();
    if asks && candidate.node.load().unread > 0 {
        return Err(Reason::Unread);
    }
    let limit = policy.with_overcommit(engine.total);
    let mut free = limit;
    free -= candidate.reserved;
    // What reserves nothing fits everywhere, also where too much is reserved already.
    if want.resources.memory.0 > 0 && want.resources.memory > free.memory {
        return Err(Reason::Memory { asked: want.resources.memory, free: free.memory });
    }
    if want.resources.cpus > Cpus::default() && want.resources.cpus > free.cpus {
        return Err(Reason::Cpus { asked: want.resources.cpus, free: free.cpus });
    }
    Ok(())
}
