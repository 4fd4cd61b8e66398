//! Why a container is where it is, and what one like it would get now.

use std::time::Duration;

use http::{Method, Response};
use serde_json::{Map, Value, json};
use wharf_engine::Body;
use wharf_plan::{Seed, Verdict, Workload};

use super::{
    answer::{json as answer, of_engine},
    call::{App, Call},
    place::WHY,
};
use crate::{API_NEWEST, Error, create::CreateRequest};

/// An inspection asks one engine about one container; disks may be slow.
const INSPECT_WITHIN: Duration = Duration::from_secs(60);

/// `GET /wharf/explain/{container}`
pub(crate) async fn container(call: Call) -> Result<Response<Body>, Error> {
    let container = call.container()?;
    let snapshot = call.snapshot();
    let node = snapshot.node(container.node).ok_or_else(|| Error::internal("a container without a node"))?;
    let link = call.app.link(node, &format!("container {}", container.name))?;
    let path = link.path(API_NEWEST, &format!("/containers/{}/json", container.id));
    let inspected = link.call(Method::GET, &path, None, INSPECT_WITHIN).await;
    let inspected = inspected.map_err(|error| of_engine(&error, node))?;
    let inspected: Value = serde_json::from_slice(&inspected)
        .map_err(|error| Error::internal(format!("{} gave an answer that cannot be read: {error}", node.name)))?;
    let mut explained = judge(&call.app, create_request(&inspected).to_string().as_bytes(), None)?;
    explained.insert("Container".to_owned(), json!(&*container.name));
    explained.insert("Node".to_owned(), json!(&*node.name));
    explained.insert("Placed".to_owned(), json!(container.labels.get(WHY)));
    Ok(answer(Value::Object(explained).to_string()))
}

/// `POST /wharf/explain`: of a create request that is not made.
pub(crate) async fn request(call: Call) -> Result<Response<Body>, Error> {
    let query = call.query()?;
    let platform = query.get("platform").filter(|platform| !platform.is_empty()).map(str::to_owned);
    let (app, bytes) = (call.app.clone(), call.bytes().await?);
    Ok(answer(Value::Object(judge(&app, &bytes, platform.as_deref())?).to_string()))
}

/// The create request that would give such a container.
fn create_request(inspected: &Value) -> Value {
    let mut body = inspected["Config"].clone();
    if let Some(body) = body.as_object_mut() {
        body.insert("HostConfig".to_owned(), inspected["HostConfig"].clone());
    }
    body
}

/// What the rules and the strategy make of a create request now.
fn judge(app: &App, body: &[u8], platform: Option<&str>) -> Result<Map<String, Value>, Error> {
    let snapshot = app.fleet.snapshot();
    let request = CreateRequest::parse(body, None, platform, &snapshot, app.default_network.as_deref())?;
    let policy = app.fleet.policy();
    let verdicts: Vec<_> = wharf_plan::judge(&request.workload, &snapshot, &policy, Seed(0)).collect();
    let fitting = verdicts.iter().filter_map(|verdict| Some((verdict.outcome.as_ref().ok()?, verdict.node)));
    let name = |id| snapshot.node(id).map_or("", |node| &*node.name);
    let best = fitting.max().map(|(_, id)| name(id));
    let nodes: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            let load = snapshot.node(verdict.node).map(|node| node.load().clone()).unwrap_or_default();
            let mut shown = outcome(verdict);
            shown["Node"] = json!(name(verdict.node));
            shown["Containers"] = json!(load.count);
            shown["ReservedNanoCpus"] = json!(load.reserved.cpus.as_nanos());
            shown["ReservedMemory"] = json!(load.reserved.memory.0);
            shown
        })
        .collect();
    Ok(Map::from_iter([
        ("Strategy".to_owned(), json!(policy.strategy.name())),
        ("Asks".to_owned(), json!(asked(&request.workload))),
        ("Best".to_owned(), json!(best)),
        ("Nodes".to_owned(), json!(nodes)),
    ]))
}

fn outcome(verdict: &Verdict) -> Value {
    match &verdict.outcome {
        Ok(score) => json!({"Fits": true, "Prompt": score.prompt, "Wishes": score.wishes, "Company": score.company}),
        Err((filter, reason)) => json!({"Fits": false, "Filter": filter, "Reason": reason.to_string()}),
    }
}

/// What a workload asks of a node, for people.
fn asked(want: &Workload) -> Vec<String> {
    let mut asked = Vec::new();
    if want.resources.cpus.as_nanos() > 0 {
        asked.push(format!("{} CPUs", want.resources.cpus));
    }
    if want.resources.memory.0 > 0 {
        asked.push(want.resources.memory.to_string());
    }
    asked.extend(want.ports().filter_map(|port| Some(format!("port {}/{}", port.host?, port.transport.name()))));
    asked.extend(want.requirements.iter().map(|required| required.what.clone()));
    asked.extend(want.constraints.iter().map(|expression| format!("constraint {expression}")));
    asked.extend(want.affinities.iter().map(|expression| format!("affinity {expression}")));
    asked.extend(
        want.whitelists
            .iter()
            .map(|names| format!("one of {}", names.iter().map(|name| &**name).collect::<Vec<_>>().join(", "))),
    );
    asked.extend(want.platform.iter().map(|platform| format!("platform {platform}")));
    asked.extend(want.api.iter().map(|(version, what)| format!("API {version} for {what}")));
    asked
}
