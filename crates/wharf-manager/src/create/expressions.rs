//! The wishes that users write into the environment, the labels or a build's arguments: the predecessor's way to speak to
//! the scheduler through an API that knows of none.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use wharf_plan::Expression;

use crate::Error;

/// What may stand before the colon in the environment, and the label that keeps it.
const KINDS: [(Kind, &str, &str); 4] = [
    (Kind::Constraint, "constraint", "com.docker.swarm.constraints"),
    (Kind::Affinity, "affinity", "com.docker.swarm.affinities"),
    (Kind::Reschedule, "reschedule", "com.docker.swarm.reschedule-policies"),
    (Kind::Whitelist, "whitelist", "com.docker.swarm.whitelists"),
];

/// What is to become of a container whose node is lost, in the predecessor's words.
const RESCHEDULE_POLICIES: [&str; 2] = ["off", "on-node-failure"];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Constraint,
    Affinity,
    Reschedule,
    Whitelist,
}

/// What is wished for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// Of the node.
    pub(crate) constraints: Vec<Expression>,
    /// Of the node's containers and images.
    pub(crate) affinities: Vec<Expression>,
    /// The only nodes.
    pub(crate) whitelists: Vec<BTreeSet<Box<str>>>,
    /// What is to become of it when its node is lost.
    pub(crate) reschedule: Option<String>,
}

impl Wishes {
    fn add(&mut self, kind: Kind, name: &str, wish: &str) -> Result<(), Error> {
        let parse = || Expression::parse(wish).map_err(|error| Error::invalid(format!("{name}:{wish}: {error}")));
        match kind {
            Kind::Constraint => self.constraints.push(parse()?),
            Kind::Affinity => self.affinities.push(parse()?),
            Kind::Whitelist => self.whitelists.push(whitelist(wish)?),
            Kind::Reschedule if !RESCHEDULE_POLICIES.contains(&wish) => {
                return Err(Error::invalid(format!("invalid reschedule policy: {wish}")));
            }
            Kind::Reschedule => {
                let other = self.reschedule.replace(wish.to_owned()).filter(|known| known != wish);
                if other.is_some() {
                    return Err(Error::invalid("too many reschedule policies"));
                }
            }
        }
        Ok(())
    }
}

/// Takes the wishes out of a create request's environment, keeps them in labels (JSON lists, as the predecessor did), and
/// gives those of both.
///
/// # Errors
/// [`wharf_model::Class::Invalid`] for a wish that is none, in the predecessor's words.
pub(super) fn take(body: &mut Map<String, Value>) -> Result<Wishes, Error> {
    let mut wishes = Wishes::default();
    for (kind, name, label) in KINDS {
        let mut all = from_labels(body, label)?;
        let before = all.len();
        for wish in from_environment(body, name) {
            if !all.contains(&wish) {
                all.push(wish);
            }
        }
        for wish in &all {
            wishes.add(kind, name, wish)?;
        }
        if all.len() > before {
            keep(body, label, &all);
        }
    }
    Ok(wishes)
}

/// Takes the wishes out of a build's arguments: `--build-arg constraint:node==node1`.
///
/// # Errors
/// As [`take`].
pub(crate) fn of_build(arguments: &mut Map<String, Value>) -> Result<Wishes, Error> {
    let mut wishes = Wishes::default();
    for (kind, name, _) in KINDS {
        let mut found = Vec::new();
        arguments.retain(|key, value| {
            // The client cuts an argument at its first `=`.
            let wish = key.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
            found.extend(wish.map(|wish| match value.as_str() {
                Some(value) => format!("{wish}={value}"),
                None => wish.to_owned(),
            }));
            wish.is_none()
        });
        for wish in found {
            wishes.add(kind, name, &wish)?;
        }
    }
    Ok(wishes)
}

/// The nodes that a label allows, of a thing that has no other wishes: a volume.
///
/// # Errors
/// As [`take`].
pub(crate) fn whitelists(labels: Option<&Value>) -> Result<Vec<BTreeSet<Box<str>>>, Error> {
    let Some((_, _, label)) = KINDS.iter().find(|(kind, ..)| matches!(kind, Kind::Whitelist)) else {
        return Ok(Vec::new());
    };
    list(labels, label)?.iter().map(|wish| whitelist(wish)).collect()
}

/// `node==a|b|c`: exact names.
fn whitelist(wish: &str) -> Result<BTreeSet<Box<str>>, Error> {
    let names = wish.strip_prefix("node==").filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| Error::invalid(format!("whitelist:{wish}: want node==NAME|NAME")))?;
    Ok(names.split('|').map(|name| name.trim().into()).collect())
}

fn from_labels(body: &Map<String, Value>, label: &str) -> Result<Vec<String>, Error> {
    list(body.get("Labels"), label)
}

fn list(labels: Option<&Value>, label: &str) -> Result<Vec<String>, Error> {
    let Some(text) = labels.and_then(|labels| labels.get(label)).and_then(Value::as_str) else {
        return Ok(Vec::new());
    };
    let bad = |_| Error::invalid(format!("label {label}={text:?}: want a JSON list such as [\"node==node1\"]"));
    serde_json::from_str(text).map_err(bad)
}

fn from_environment(body: &mut Map<String, Value>, kind: &str) -> Vec<String> {
    let Some(environment) = body.get_mut("Env").and_then(Value::as_array_mut) else { return Vec::new() };
    let mut wishes = Vec::new();
    environment.retain(|entry| {
        let wish = entry.as_str().and_then(|entry| entry.strip_prefix(kind)?.strip_prefix(':'));
        wishes.extend(wish.map(str::to_owned));
        wish.is_none()
    });
    wishes
}

fn keep(body: &mut Map<String, Value>, label: &str, wishes: &[String]) {
    let list = Value::Array(wishes.iter().cloned().map(Value::String).collect());
    super::request::set_label(body, label, &list.to_string());
}
