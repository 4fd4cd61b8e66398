//! Several engines' answers as one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use wharf_model::{AGENT_LABEL, AGENT_NAME};

/// Adds one engine's answer to those before: lists are joined, numbers added, anything else is the first's.
pub(crate) fn sum(mut folded: Map<String, Value>, answer: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in answer {
        match (folded.get_mut(&key), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (Some(Value::Number(number)), Value::Number(more)) => {
                let sum = number.as_i64().unwrap_or(0).saturating_add(more.as_i64().unwrap_or(0));
                *number = sum.into();
            }
            (None | Some(Value::Null), value) => drop(folded.insert(key, value)),
            _ => {}
        }
    }
    folded
}

/// The images of `GET /system/df`, each once: with the containers of all nodes, and the most that it shares anywhere.
pub(crate) fn images_once(mut usage: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(images)) = usage.get_mut("Images") else { return usage };
    let mut once: BTreeMap<String, Value> = BTreeMap::new();
    for image in images.drain(..) {
        let id = image["Id"].as_str().unwrap_or_default().to_owned();
        match once.get_mut(&id) {
            None => drop(once.insert(id, image)),
            Some(known) => {
                let number = |image: &Value, key: &str| image[key].as_i64().unwrap_or(0);
                known["Containers"] = (number(known, "Containers") + number(&image, "Containers")).into();
                known["SharedSize"] = number(known, "SharedSize").max(number(&image, "SharedSize")).into();
            }
        }
    }
    images.extend(once.into_values());
    usage
}

/// `GET /system/df` without Wharf's own agents and what they are made of, which no list shows.
pub(crate) fn without_agents(mut usage: Map<String, Value>) -> Map<String, Value> {
    let of_agent =
        |tag: &Value| tag.as_str().and_then(|tag| tag.split_once(':')).is_some_and(|(name, _)| name == AGENT_NAME);
    let is_image = |image: &Value| {
        let tags = image["RepoTags"].as_array();
        tags.is_some_and(|tags| !tags.is_empty() && tags.iter().all(of_agent))
    };
    let is_agents = |list: &str, entry: &Value| match list {
        "Containers" => !entry["Labels"][AGENT_LABEL].is_null(),
        "Images" => is_image(entry),
        _ => entry["Name"] == AGENT_NAME,
    };
    for key in ["Containers", "Images", "Volumes"] {
        if let Some(Value::Array(list)) = usage.get_mut(key) {
            list.retain(|entry| !is_agents(key, entry));
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{images_once, sum, without_agents};

    fn folded(answers: &[Value]) -> Value {
        let answers = answers.iter().map(|answer| answer.as_object().unwrap().clone());
        Value::Object(answers.fold(serde_json::Map::new(), sum))
    }

    #[test]
    fn lists_are_joined_and_numbers_added() {
        let one = json!({"ContainersDeleted": null, "SpaceReclaimed": 1});
        let two = json!({"ContainersDeleted": ["a"], "SpaceReclaimed": 2});
        let three = json!({"ContainersDeleted": ["b"], "SpaceReclaimed": 3});
        assert_eq!(folded(&[one.clone(), two, three]), json!({"ContainersDeleted": ["a", "b"], "SpaceReclaimed": 6}));
        assert_eq!(folded(std::slice::from_ref(&one)), one);
    }

    #[test]
    fn an_image_on_several_nodes_is_counted_once() {
        let on =
            |containers: i64| json!({"LayersSize": 10, "Images": [{"Id": "a", "Size": 10, "Containers": containers}]});
        let Value::Object(usage) = folded(&[on(1), on(2)]) else { unreachable!("a map") };
        let usage = Value::Object(images_once(usage));
        assert_eq!(
            usage,
            json!({"LayersSize": 20, "Images": [{"Id": "a", "Size": 10, "Containers": 3, "SharedSize": 0}]})
        );
    }

    #[test]
    fn agents_use_no_space_that_clients_see() {
        let usage = json!({
            "Containers": [{"Id": "a", "Labels": {"wharf.agent": "f"}}, {"Id": "b", "Labels": {}}, {"Id": "c"}],
            "Images": [
                {"Id": "a", "RepoTags": ["wharf-agent:1", "wharf-agent:2"]},
                {"Id": "b", "RepoTags": ["wharf-agent:1", "mine:1"]},
                {"Id": "c", "RepoTags": []},
                {"Id": "d", "RepoTags": null},
            ],
            "Volumes": [{"Name": "wharf-agent"}, {"Name": "wharf-agents"}],
            "BuildCache": null,
        });
        let Value::Object(usage) = usage else { unreachable!("a map") };
        let shown = Value::Object(without_agents(usage));
        let ids = |list: &str, key: &str| {
            shown[list].as_array().unwrap().iter().map(|entry| entry[key].clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids("Containers", "Id"), ["b", "c"]);
        assert_eq!(ids("Images", "Id"), ["b", "c", "d"]);
        assert_eq!(ids("Volumes", "Name"), ["wharf-agents"]);
    }
}
