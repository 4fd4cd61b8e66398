//! The wishes that users write into the environment or the labels: the predecessor's way to speak to the scheduler through
//! an API that knows of none.

use serde_json::{Map, Value};
use wharf_plan::Expression;

use crate::Error;

/// What may stand before the colon in the environment, the label that keeps it, and whether it is understood.
const KINDS: [(&str, &str, bool); 4] = [
    ("constraint", "com.docker.swarm.constraints", true),
    ("affinity", "com.docker.swarm.affinities", false),
    ("reschedule", "com.docker.swarm.reschedule-policies", false),
    ("whitelist", "com.docker.swarm.whitelists", false),
];

/// Takes the wishes out of the environment, keeps them in labels (JSON lists, as the predecessor did), and gives what is
/// asked of the node, from both.
///
/// # Errors
/// [`wharf_model::Class::Invalid`] for an expression that is none; [`wharf_model::Class::Unsupported`] for a wish that would
/// not be granted: it is never dropped in silence.
pub(super) fn take(body: &mut Map<String, Value>) -> Result<Vec<Expression>, Error> {
    let mut constraints = Vec::new();
    for (kind, label, understood) in KINDS {
        let mut wishes = from_labels(body, label)?;
        let before = wishes.len();
        wishes.extend(from_environment(body, kind));
        if wishes.is_empty() {
            continue;
        }
        if !understood {
            let wish = &wishes[0];
            let message = format!("{kind}:{wish}: Wharf does not serve {kind} yet; constraint:KEY==VALUE is served");
            return Err(Error::new(wharf_model::Class::Unsupported, message));
        }
        for wish in &wishes {
            let parsed = Expression::parse(wish);
            constraints.push(parsed.map_err(|error| Error::invalid(format!("{kind}:{wish}: {error}")))?);
        }
        if wishes.len() > before {
            keep(body, label, &wishes);
        }
    }
    Ok(constraints)
}

fn from_labels(body: &Map<String, Value>, label: &str) -> Result<Vec<String>, Error> {
    let Some(text) = body.get("Labels").and_then(|labels| labels.get(label)).and_then(Value::as_str) else {
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
    let labels = body.entry("Labels").or_insert(Value::Null);
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    if let Some(labels) = labels.as_object_mut() {
        let list = Value::Array(wishes.iter().cloned().map(Value::String).collect());
        labels.insert(label.to_owned(), Value::String(list.to_string()));
    }
}
