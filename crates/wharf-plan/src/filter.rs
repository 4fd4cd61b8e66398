//! The rules that a node must fulfil, one row each.

use wharf_model::{Container, Cpus, Image, Node, PROJECT_LABEL, PublishedPort, Reservation, Resources};

use crate::{Expression, Platform, Policy, Reason, Workload};

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

/// The rules, in the order in which they are told of: the predecessor's, two that it had under no
/// name, and what fleet networks need.
pub(crate) const FILTERS: &[Filter] = &[
    Filter { name: "health", check: health },
    Filter { name: "platform", check: platform },
    Filter { name: "port", check: port },
    Filter { name: "containerslots", check: slots },
    Filter { name: "dependency", check: dependency },
    Filter { name: "affinity", check: affinity },
    Filter { name: "constraint", check: constraint },
    Filter { name: "whitelist", check: whitelist },
    Filter { name: "network", check: network },
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
        .filter(|filter| !policy.without.contains(&filter.name))
        .try_for_each(|filter| (filter.check)(want, candidate, policy).map_err(|reason| (filter.name, reason)))
}

/// How many of the wishes that may fail do hold.
pub(crate) fn wishes(want: &Workload, candidate: &Candidate<'_>) -> usize {
    let soft = |expressions: &[Expression], holds: &dyn Fn(&Expression) -> bool| {
        expressions.iter().filter(|expression| expression.is_soft() && holds(expression)).count()
    };
    soft(&want.constraints, &|expression| holds(expression, candidate.node))
        + soft(&want.affinities, &|expression| has_affinity(expression, candidate))
}

/// Whether a node has, or is promised, one of the project that the container belongs to. What is on a fleet network finds the
/// others wherever they are.
pub(crate) fn has_company(want: &Workload, candidate: &Candidate<'_>) -> bool {
    if !want.networks.is_empty() {
        return false;
    }
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
        return expression.holds([label(node, expression.key()).unwrap_or_default()]);
    }
    let address = node.endpoint.address();
    let id = node.engine.as_ref().map(|engine| &*engine.id);
    expression.holds([&*node.name, &address].into_iter().chain(id))
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.label(key)
}

fn platform(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let Some(engine) = &candidate.node.engine else { return Ok(()) };
    if let Some((needs, what)) = want.api
        && engine.api < needs
    {
        return Err(Reason::Api { what, needs, has: engine.api });
    }
    let Some(platform) = &want.platform else { return Ok(()) };
    let has = |key: &str| engine.labels.get(key).map_or("", |value| &**value);
    let (os, architecture) = (has("ostype"), has("architecture"));
    if platform.runs_on(os, architecture) {
        return Ok(());
    }
    let has = Platform::parse(&format!("{os}/{architecture}")).to_string();
    Err(Reason::Platform { asked: platform.to_string(), has })
}

/// The predecessor's rule: all containers of a node count, whatever they do; a label that is no number is none.
fn slots(_: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let Some(slots) = candidate.node.slots() else { return Ok(()) };
    let taken = candidate.node.containers.len() + candidate.promised.len();
    if taken < slots { Ok(()) } else { Err(Reason::Slots(slots)) }
}

fn whitelist(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let without = want.whitelists.iter().find(|names| !names.contains(&*candidate.node.name));
    without.map_or(Ok(()), |names| Err(Reason::NotListed(names.iter().cloned().collect())))
}

fn affinity(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let mut hard = want.affinities.iter().filter(|expression| !expression.is_soft());
    let fails = hard.find(|expression| !has_affinity(expression, candidate));
    fails.map_or(Ok(()), |expression| Err(Reason::Affinity(expression.to_string())))
}

/// Whether what is asked of a node's containers (by id or name, or by label) or images holds there. Containers that are
/// promised are as good as there: creates at the same time keep apart, too.
fn has_affinity(expression: &Expression, candidate: &Candidate<'_>) -> bool {
    let (node, promised) = (candidate.node, &candidate.promised);
    match expression.key() {
        "container" => {
            let by_id = expression.may_match_ids();
            let named = |container: &Container| {
                let id = || container.id.to_string();
                let is_id = |id: String| expression.matches(&id) || expression.matches(&id[..12]);
                expression.matches(&container.name) || by_id && is_id(id())
            };
            let matches = node.containers.values().any(|container| named(container))
                || promised.iter().filter_map(|promise| promise.name.as_deref()).any(|name| expression.matches(name));
            expression.is(matches)
        }
        "image" => {
            let named = |image: &Image| {
                let id = image.id.to_string();
                let hex = id.split_once(':').map_or(&*id, |(_, hex)| hex);
                [&*id, hex, &hex[..12.min(hex.len())]].into_iter().any(|id| expression.matches(id))
                    || image.tags.iter().chain(&image.digests).any(|name| {
                        let repository = name.rsplit_once(['@', ':']).map_or(&**name, |(repository, _)| repository);
                        // `repository@sha256:…` is cut at its last colon; what is before the `@` is meant.
                        let repository = repository.split('@').next().unwrap_or_default();
                        expression.matches(name) || expression.matches(repository)
                    })
            };
            expression.is(node.images.values().any(|image| named(image)))
        }
        key => {
            let listed = node.load().may_have_label(key, None);
            let on_node = || node.containers.values().filter_map(|container| container.labels.get(key));
            let values = listed.then(on_node).into_iter().flatten();
            expression.holds(values.chain(promised.iter().filter_map(|promise| promise.labels.get(key))))
        }
    }
}

fn dependency(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let missing = want.requirements.iter().find(|requirement| !requirement.nodes.contains(&candidate.node.id));
    missing
        .map_or(Ok(()), |missing| Err(Reason::Elsewhere { what: missing.what.clone(), names: missing.names.clone() }))
}

fn port(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    let asks = !want.ranges.is_empty() || want.ports().any(|port| port.host.is_some());
    if asks && candidate.node.load().unread > 0 {
        return Err(Reason::Unread);
    }
    let taken = want.ports().find_map(|port| taken(&port, candidate).map(|by| Reason::port(&port, by)));
    let full = want.ranges.iter().find(|range| !range.ports().any(|port| taken_by_none(&port, candidate)));
    let full = full
        .map(|range| Reason::Ports { first: range.first, last: format!("{}/{}", range.last, range.transport.name()) });
    taken.or(full).map_or(Ok(()), Err)
}

fn taken_by_none(port: &PublishedPort, candidate: &Candidate<'_>) -> bool {
    taken(port, candidate).is_none()
}

/// Who takes a port: a container's name, or nobody's yet.
fn taken<'a>(wanted: &PublishedPort, candidate: &Candidate<'a>) -> Option<Option<&'a str>> {
    let mut taking = candidate.node.containers.values().filter(|container| container.phase.takes_room());
    let clashes = |taken: &PublishedPort| wanted.clashes_with(taken);
    // Only where the number is taken at all is it worth to look on which address, and by whom.
    if candidate.node.load().takes_port(wanted)
        && let Some(by) = taking.find(|container| container.host_ports().any(|taken| clashes(&taken)))
    {
        return Some(Some(&by.name));
    }
    let promise = candidate.promised.iter().find(|promise| promise.published.iter().any(clashes));
    promise.map(|promise| promise.name.as_deref())
}

fn network(want: &Workload, candidate: &Candidate<'_>, _: &Policy) -> Result<(), Reason> {
    match want.networks.first() {
        Some(network) if !candidate.node.has_agent() => Err(Reason::NoAgent { network: network.clone() }),
        _ => Ok(()),
    }
}

fn resources(want: &Workload, candidate: &Candidate<'_>, policy: &Policy) -> Result<(), Reason> {
    let Some(engine) = &candidate.node.engine else { return Ok(()) };
    // What reserves nothing fits everywhere, also where too much is reserved already.
    if want.resources == Resources::default() {
        return Ok(());
    }
    if candidate.node.load().unread > 0 {
        return Err(Reason::Unread);
    }
    let limit = policy.with_overcommit(engine.total);
    let mut free = limit;
    free -= candidate.reserved;
    if want.resources.memory.0 > 0 && want.resources.memory > free.memory {
        return Err(Reason::Memory { asked: want.resources.memory, free: free.memory });
    }
    if want.resources.cpus > Cpus::default() && want.resources.cpus > free.cpus {
        return Err(Reason::Cpus { asked: want.resources.cpus, free: free.cpus });
    }
    Ok(())
}
